"""Fields of a configuration that this version reads but does not serve.

Said at start, by `tritium check` and by `dynamo-migrate audit`. What would give wrong answers stops the load; what
only costs something is a warning.
"""

from collections.abc import Iterator
from typing import Any

from tritium.compat.config.finding import Finding, Path
from tritium.compat.config.problem import Stage

_REFUSED: tuple[tuple[Path, str], ...] = (
    (("batch_input",), "tensors made of the batch (batch_input) are not served"),
    (("batch_output",), "outputs scattered over the batch (batch_output) are not served"),
)
_IGNORED: tuple[tuple[Path, str], ...] = (
    (("model_metrics", "metric_control"), "model_metrics has no effect: histograms have their usual buckets"),
)


def check_served(config: Any) -> Iterator[Finding]:
    """Find the fields of a configuration that are not served."""
    for where, what in _REFUSED:
        if _given(config, where):
            yield Finding(where, f"model '{config.name}': {what}", "not in this version", Stage.LOAD, "Unsupported")
    for where, what in _IGNORED:
        if _given(config, where):
            yield Finding(where, what, "not in this version", Stage.WARNING)


def _given(message: Any, where: Path) -> bool:
    for name in where:
        message = getattr(message, str(name))
    return bool(message)
