"""Which backends are installed, and what to tell someone whose model needs one that is not."""

from collections.abc import Collection
from functools import cache
from importlib.metadata import entry_points

from tritium.compat.alternatives import way_out

GROUP = "tritium.backends"

_INSTALL = {
    "onnxruntime": "install Tritium with the extra onnx, as make serve does",
    "vllm": "install Tritium with the extra vllm, as make serve ENGINE=vllm does",
}


@cache
def installed_backends() -> frozenset[str]:
    """Return the names of the tensor backends that packages offer, without importing any."""
    return frozenset(point.name for point in entry_points(group=GROUP))


def advice(backend: str, installed: Collection[str], files: Collection[str] = ()) -> str:
    """Say how to get a backend, or how to do without it; `files` are those of the model's folder and first version."""
    have = f"installed: {', '.join(sorted(installed))}"
    way = _INSTALL.get(backend) or way_out(backend, files)
    return f"{way}; {have}" if way else have
