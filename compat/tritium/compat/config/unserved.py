"""Fields of a configuration that this version reads but does not serve.

Said at start, by `tritium check` and by `dynamo-migrate audit`. What would give wrong answers stops the load; what
only costs something is a warning.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from tritium.compat.config.coverage import COVERAGE, Fate
from tritium.compat.config.finding import Finding, Path
from tritium.compat.config.problem import Stage

BATCH_STRATEGY: Final = "TRITON_BATCH_STRATEGY_PATH"
NO_BATCH_STRATEGY: Final = "custom batching strategies are shared libraries, which are not loaded here"
BATCH_STRATEGY_HINT: Final = (
    "leave it out and say what a batch is with max_batch_size, preferred_batch_size and allow_ragged_batch; a python "
    "model may also split what it is given"
)
_JOINING_BACKENDS = frozenset({"onnxruntime"})
"""Those that run a batch as one, and make and cut tensors by the shapes in it; others get requests as they are."""
_STACKING_BACKENDS = frozenset({"fil", "openvino", "pytorch"})
"""Those that run a batch as one, too, but make no tensors of it: their models would miss an input."""
_BY_SHAPES: tuple[tuple[Path, str], ...] = (
    (("batch_input",), "batch_input has no effect: backend '{}' gets requests one by one and knows their shapes"),
    (("batch_output",), "batch_output has no effect: backend '{}' answers requests one by one"),
)


def check_served(config: Any) -> Iterator[Finding]:
    """Find the fields of a configuration that are not served."""
    if BATCH_STRATEGY in config.parameters and config.HasField("sequence_batching"):
        message = f"{BATCH_STRATEGY} cannot be specified with sequence batcher, using default batching strategy"
        yield Finding(("parameters",), message, "leave it out", Stage.LOAD, "Invalid argument")
    elif BATCH_STRATEGY in config.parameters:
        message = f"model '{config.name}': {NO_BATCH_STRATEGY}"
        yield Finding(("parameters",), message, BATCH_STRATEGY_HINT, Stage.LOAD, "Unsupported")
    for where, what in _BY_SHAPES:
        if _given(config, where) and config.backend in _STACKING_BACKENDS:
            message = f"model '{config.name}': {where[0]} is not served for backend '{config.backend}'"
            yield Finding(where, message, "export the model to ONNX, for which it is", Stage.LOAD, "Unsupported")
        elif _given(config, where) and config.backend not in _JOINING_BACKENDS:
            yield Finding(where, what.format(config.backend), "not in this version", Stage.WARNING)
    for name, coverage in COVERAGE.items():
        if coverage.fate is Fate.NOTED:
            for where in _places(config, name.split(".")):
                yield Finding(where, f"{name} changes nothing: {coverage.note}", "", Stage.WARNING)


def _places(message: Any, names: Sequence[str]) -> Iterator[Path]:
    """Find where a field is given, in every element of what is repeated above it."""
    field = message.DESCRIPTOR.fields_by_name[names[0]]
    value = getattr(message, names[0])
    if len(names) > 1 and field.is_repeated:
        for index, element in enumerate(value):
            yield from ((names[0], index, *rest) for rest in _places(element, names[1:]))
    elif len(names) > 1:
        yield from ((names[0], *rest) for rest in _places(value, names[1:]))
    elif value if field.is_repeated or not field.has_presence else message.HasField(names[0]):
        yield (names[0],)


def _given(message: Any, where: Path) -> bool:
    for name in where:
        message = getattr(message, str(name))
    return bool(message)
