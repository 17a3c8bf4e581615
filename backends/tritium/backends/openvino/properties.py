"""What the parameters of a configuration mean to OpenVINO.

Rules and words: ParseParameterHelper of openvino_backend (2.73), which takes values in any case.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tritium.backends.hosted.configured import Configured, Refused
from tritium.compat.pb_utils import TritonError

_STREAMS = {"auto": "AUTO", "numa": "NUMA"}
_HINTS = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")


@dataclass(frozen=True, slots=True)
class Handling:
    """How a model is read and fed: `padding` fills batches up, `static` gives the batch one fixed size."""

    device: str
    extension: str
    static: bool
    padding: bool
    reshape: bool


def handling(model: Configured) -> Handling:
    """Return how the configuration wants the model to be handled; a flag is on where it says yes."""
    padding = _yes(model, "ENABLE_BATCH_PADDING")
    return Handling(
        device=model.parameters.get("TARGET_DEVICE", "").upper() or "CPU",
        extension=model.parameters.get("CPU_EXTENSION_PATH", ""),
        static=padding or _yes(model, "SKIP_OV_DYNAMIC_BATCHSIZE"),
        padding=padding,
        reshape=_yes(model, "RESHAPE_IO_LAYERS"),
    )


def properties(model: Configured) -> Mapping[str, Any]:
    """Return the properties to set on the device.

    Raises:
        Refused: a value cannot be.
    """
    return {
        name: value
        for key, read in _READERS.items()
        if (text := model.parameters.get(key, ""))
        for name, value in (read(key, text.lower()),)
    }


def _threads(key: str, text: str) -> tuple[str, Any]:
    if not text.isdigit():
        raise _wrong(key, "a non-negative number", text)
    return key, int(text)


def _precision(key: str, text: str) -> tuple[str, Any]:
    if text != "yes":
        raise _wrong(key, "YES", text)
    return "INFERENCE_PRECISION_HINT", "bf16"


def _streams(key: str, text: str) -> tuple[str, Any]:
    if text not in _STREAMS and not text.isdigit():
        raise _wrong(key, "either AUTO/NUMA/<int_value>", text)
    return key, _STREAMS.get(text, text)


def _hint(key: str, text: str) -> tuple[str, Any]:
    if text.upper() not in _HINTS:
        raise _wrong(key, "/".join(_HINTS), text)
    return key, text.upper()


_READERS: Mapping[str, Callable[[str, str], tuple[str, Any]]] = {
    "INFERENCE_NUM_THREADS": _threads,
    "COMPILATION_NUM_THREADS": _threads,
    "HINT_BF16": _precision,
    "NUM_STREAMS": _streams,
    "PERFORMANCE_HINT": _hint,
}


def _yes(model: Configured, name: str) -> bool:
    return model.parameters.get(name, "").lower() == "yes"


def _wrong(key: str, wanted: str, got: str) -> Refused:
    return Refused(f"expected the parameter '{key}' to be {wanted}, got {got}", TritonError.INVALID_ARG)
