"""Every field of model_config.proto has a fate, and a field that changes nothing is said to."""

from pathlib import Path

import pytest
from google.protobuf import text_format

from tritium.compat.config.coverage import COVERAGE, Fate
from tritium.compat.config.problem import Stage
from tritium.compat.config.unserved import check_served
from tritium.compat.protobufs import model_config_pb2


def fields(descriptor, above=""):
    """Walk the messages of a configuration: every field by its dotted path, maps by their keys and values as one."""
    for field in descriptor.fields:
        path = f"{above}{field.name}"
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            inner = inner.fields_by_name["value"].message_type
        yield path
        if inner is not None:
            yield from fields(inner, f"{path}.")


FIELDS = list(fields(model_config_pb2.ModelConfig.DESCRIPTOR))


def entry_of(field):
    """Return the entry that speaks for a field: its own, or that of the nearest message around it."""
    parts = field.split(".")
    return next(
        (COVERAGE[name] for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in COVERAGE), None
    )


def test_every_field_has_a_fate():
    """A field that a new proto brings is noticed here, before anybody's model has it."""
    whole = {field for field in FIELDS if any(other.startswith(f"{field}.") for other in FIELDS)}
    assert [field for field in FIELDS if field not in whole and entry_of(field) is None] == []
    assert len(FIELDS) > 160


def test_every_entry_is_of_a_field():
    """A fate of a field that is not there would be a claim about nothing."""
    assert set(COVERAGE) <= set(FIELDS)
    assert all(bool(one.note) is (one.fate is not Fate.HONOURED) for one in COVERAGE.values())


def give(message, names):
    """Set a field to something that is not its default."""
    field = message.DESCRIPTOR.fields_by_name[names[0]]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, names[0])["key"] = "value"
    elif len(names) > 1:
        inner = getattr(message, names[0])
        give(inner.add() if field.is_repeated else inner, names[1:])
    elif field.message_type is not None:
        inner = getattr(message, names[0])
        (inner.add() if field.is_repeated else inner).SetInParent()
    elif field.cpp_type == field.CPPTYPE_STRING:
        setattr(message, names[0], "x")
    else:
        setattr(message, names[0], True if field.cpp_type == field.CPPTYPE_BOOL else 1)


@pytest.mark.parametrize("name", [name for name, one in COVERAGE.items() if one.fate is Fate.NOTED])
def test_a_field_that_changes_nothing_is_said_to(name):
    """It is a warning where the file has it: the model is served."""
    config = model_config_pb2.ModelConfig(name="m", backend="python")
    assert list(check_served(config)) == []
    give(config, name.split("."))
    (finding,) = check_served(config)
    assert finding.message == f"{name} changes nothing: {COVERAGE[name].note}"
    assert finding.stage is Stage.WARNING
    assert ".".join(str(part) for part in finding.where if not isinstance(part, int)) == name


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (
            "dynamic_batching {}",
            "model 'm': custom batching strategies are shared libraries, which are not loaded here",
        ),
        ("sequence_batching {}", "TRITON_BATCH_STRATEGY_PATH cannot be specified with sequence batcher"),
    ],
)
def test_custom_batching_is_refused(scheduler, message):
    """A model whose batches a shared library decides is not loaded as if it said nothing."""
    strategy = "parameters { key: 'TRITON_BATCH_STRATEGY_PATH' value { string_value: 'a.so' } }"
    (finding,) = check_served(text_format.Parse(f"name: 'm' {scheduler} {strategy}", model_config_pb2.ModelConfig()))
    assert finding.message.startswith(message)
    assert finding.stage is Stage.LOAD


def test_the_page_says_the_same():
    """docs/configuration.md has a row for every field that is not simply honoured."""
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    assert [name for name, one in COVERAGE.items() if one.note and f"| `{name}` | {one.note} |" not in page] == []
