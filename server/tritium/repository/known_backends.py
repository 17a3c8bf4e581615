"""Which backends are installed, and what to tell someone whose model needs one that is not."""

from collections.abc import Collection
from functools import cache
from importlib.metadata import entry_points

GROUP = "tritium.backends"

_ADVICE = {
    "onnxruntime": "pip install 'tritium[onnx]'",
    "vllm": "pip install 'tritium[vllm]'",
    "pytorch": "export the model to ONNX, or load it in a python model (pip install 'tritium[torch]')",
    "torch_aoti": "export the model to ONNX, or load it in a python model (pip install 'tritium[torch]')",
    "openvino": "convert the model to ONNX, or load it in a python model (pip install 'tritium[openvino]')",
    "tensorflow": "convert the model to ONNX (tf2onnx); Triton itself removed TensorFlow in 25.03",
    "tensorrt": "a plan runs only on the GPU it was built for: serve the ONNX model it was built from",
    "tensorrtllm": 'serve the checkpoint it was built from with backend: "vllm"',
    "dali": "write the preprocessing as a python model",
    "fil": "convert the forest to ONNX, or load it in a python model",
}


@cache
def installed_backends() -> frozenset[str]:
    """Return the names of the tensor backends that packages offer, without importing any."""
    return frozenset(point.name for point in entry_points(group=GROUP))


def advice(backend: str, installed: Collection[str]) -> str:
    """Say how to get a backend, or how to do without it."""
    have = f"installed: {', '.join(sorted(installed))}"
    return f"{_ADVICE[backend]}; {have}" if backend in _ADVICE else have
