"""Which backends are installed, and what to tell someone whose model needs one that is not."""

import importlib.util
import sys
from collections.abc import Collection
from functools import cache
from importlib.metadata import entry_points

from tritium.compat.alternatives import way_out

GROUP = "tritium.backends"

_INSTALL = {
    "onnxruntime": "install Tritium with the extra onnx, as make serve does",
    "vllm": "install Tritium with the extra vllm, as make serve ENGINE=vllm does",
}
_PACKAGES = {"pytorch": ("torch", "torch"), "openvino": ("openvino", "openvino"), "fil": ("treelite", "fil")}
"""What a backend of ours cannot do without, and the extra of Tritium that brings it."""


def missing_package(backend: str) -> tuple[str, str] | None:
    """Return the package that a backend lacks and how to get it, without importing anything; None if it is there."""
    package, extra = _PACKAGES.get(backend, ("", ""))
    if not package or importlib.util.find_spec(package) is not None:
        return None
    return package, f"{sys.executable} -m pip install 'tritium[{extra}]'"


@cache
def installed_backends() -> frozenset[str]:
    """Return the names of the tensor backends that packages offer, without importing any."""
    return frozenset(point.name for point in entry_points(group=GROUP))


def advice(backend: str, installed: Collection[str], files: Collection[str] = ()) -> str:
    """Say how to get a backend, or how to do without it; `files` are those of the model's folder and first version."""
    have = f"installed: {', '.join(sorted(installed))}"
    way = _INSTALL.get(backend) or way_out(backend, files)
    return f"{way}; {have}" if way else have
