"""What is filled in before a model is loaded."""

import json
from pathlib import Path

import pytest

from tritium.compat.config.defaults import UnknownBackend, complete_backend, complete_instances, normalize
from tritium.compat.config.json import BadConfigJson, from_json, to_dict, to_json
from tritium.compat.config.parse import parse_text

ANSWERS = Path(__file__).with_name("config_answers.txt").read_text()


def completed(text, name="m", files=(), gpus=()):
    config = parse_text(text, "f").message
    complete_backend(config, name, files)
    normalize(config)
    complete_instances(config, gpus)
    return config


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        ("", ["model.onnx"], ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
        ("", ["model.py"], ("python", "", "model.py")),
        ("", ["model.plan"], ("tensorrt", "tensorrt_plan", "model.plan")),
        ("", ["model.xml", "model.bin"], ("openvino", "", "model.xml")),
        ("", ["model.pt"], ("pytorch", "pytorch_libtorch", "")),
        ("", ["model.pt2"], ("pytorch", "torch_aoti", "model.pt2")),
        ("backend: 'pytorch'", ["model.pt2"], ("pytorch", "torch_aoti", "model.pt2")),
        ("platform: 'torch_aoti'", [], ("pytorch", "torch_aoti", "model.pt2")),
        ("backend: 'pytorch'", [], ("pytorch", "pytorch_libtorch", "model.pt")),
        ("backend: 'pytorch' runtime: 'model.py'", ["model.py", "model.pt"], ("pytorch", "pytorch_libtorch", "")),
        ("backend: 'tensorflow'", [], ("tensorflow", "", "")),
        ("", ["model.savedmodel"], ("tensorflow", "tensorflow_savedmodel", "model.savedmodel")),
        ("", ["model.onnx", "model.plan"], ("tensorrt", "tensorrt_plan", "model.plan")),
        ("platform: 'onnxruntime_onnx'", [], ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
        ("platform: 'pytorch_libtorch'", [], ("pytorch", "pytorch_libtorch", "")),
        ("backend: 'onnxruntime'", ["other.onnx"], ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
        ("default_model_filename: 'model.py'", [], ("python", "", "model.py")),
        ("backend: 'vllm'", ["model.json"], ("vllm", "", "")),
        ("backend: 'python'", ["model.onnx"], ("python", "", "model.py")),
        ("platform: 'ensemble'", [], ("", "ensemble", "")),
    ],
)
def test_backend_is_told_by_configuration_or_files(text, files, expected):
    """Backend, platform and file name follow from each other, and from the files where none is named."""
    config = completed(text, files=files)
    assert (config.backend, config.platform, config.default_model_filename) == expected


def test_backend_is_told_by_the_name_last():
    """A model called m.identity is run by the backend of that name; m alone by nothing."""
    config = completed("", name="m.identity")
    assert (config.backend, config.default_model_filename) == ("identity", "model.identity")
    with pytest.raises(UnknownBackend, match="Could not determine backend for model 'm' with no backend"):
        completed("")


def test_instance_groups():
    """Groups get a name, a kind and a count; a model without one gets a group of its own name."""

    def groups(text, gpus=()):
        return [(g.name, g.Kind.Name(g.kind), g.count, list(g.gpus)) for g in completed(text, gpus=gpus).instance_group]

    python = "backend: 'python'"
    assert groups(python) == [("m", "KIND_CPU", 1, [])]
    assert groups(python + "instance_group [ {}, { name: 'n' count: 3 } ]") == [
        ("m_0", "KIND_CPU", 1, []), ("n", "KIND_CPU", 3, []),
    ]  # fmt: skip
    assert groups("backend: 'onnxruntime'") == [("m", "KIND_CPU", 2, [])]
    assert groups(python, gpus=(0, 1)) == [("m", "KIND_GPU", 1, [0, 1])]
    assert groups(python + "instance_group { gpus: 7 }", gpus=(0,)) == [("m_0", "KIND_CPU", 1, [7])]


def cases():
    for block in ANSWERS.split("\n== ")[1:]:
        name, rest = block.split("\n", 1)
        text, answer = rest.rsplit("\n-> ", 1)
        yield pytest.param(name, text, json.loads(answer), id=name)


@pytest.mark.parametrize(("name", "text", "answer"), list(cases()))
def test_config_endpoint_equals_triton(name, text, answer):
    """The completed configuration as JSON is what the real server answered, fields and their order included."""
    config = completed(text, name=name, files=["model.py"])
    if name == "ens":
        config.model_transaction_policy.decoupled = False  # set when an ensemble is fitted to its members
    assert json.loads(to_json(config)) == answer
    assert list(to_dict(config)) == list(answer)


@pytest.mark.parametrize(("name", "text", "answer"), list(cases()))
def test_answer_reads_back_as_configuration(name, text, answer):
    """The JSON of the config endpoint can be given to a load, and means the same."""
    assert to_dict(from_json(json.dumps(answer))) == answer


def test_numbers_in_json():
    """64-bit integers are numbers, whole floats have no point, others the digits of a 32-bit float."""
    config = parse_text(
        "sequence_batching { direct { "
        "minimum_slot_utilization: 0.1 max_queue_delay_microseconds: 18446744073709551615 } }"
        "model_metrics { metric_control { "
        "metric_identifier { family: 'f' } histogram_options { buckets: [ 0.1, 2 ] } } }",
        "f",
    ).message
    found = to_dict(config)
    assert found["sequence_batching"]["direct"] == {
        "max_queue_delay_microseconds": 18446744073709551615,
        "minimum_slot_utilization": 0.1,
    }
    assert found["model_metrics"]["metric_control"][0]["histogram_options"] == {"buckets": [0.1, 2]}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"nope": 1}', '{"input": 3}', '{"a":' * 5000, "\0", '{"max_batch_size": 1e99}']
)
def test_bad_json_is_refused(text):
    """What is no configuration in JSON is told so, whatever it is."""
    with pytest.raises(BadConfigJson):
        from_json(text)


def test_keys_need_no_quotation_marks() -> None:
    """Triton reads a load's configuration with protobuf's own parser, which takes bare keys."""
    text = '{"name": "a: b", sequence_batching : { direct: { "max_queue_delay_microseconds": 5 } }}'
    config = from_json(text)
    assert (config.name, config.sequence_batching.direct.max_queue_delay_microseconds) == ("a: b", 5)


def test_a_value_alone_is_a_list_of_one() -> None:
    """protobuf's reader in C++, which Triton uses, takes a repeated field without its brackets."""
    config = from_json(
        '{"instance_group": {"count": 5}, "input": {"name": "x", "dims": 3}, "batchInput": {"targetName": "t"}, '
        '"model_warmup": [{"inputs": {"k": {"dims": 3}}}], "parameters": {"a": {"string_value": "b"}}}'
    )
    assert [group.count for group in config.instance_group] == [5]
    assert [(one.name, list(one.dims)) for one in config.input] == [("x", [3])]
    assert config.batch_input[0].target_name == ["t"]
    assert list(config.model_warmup[0].inputs["k"].dims) == [3]
    assert config.parameters["a"].string_value == "b"
