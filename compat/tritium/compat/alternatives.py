"""Triton's backends that are not served here: why, and what to do instead. The server and the audit say the same."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alternative:
    """Why models of a backend are not served, and what serves instead; `by_onnx`: an ONNX file beside them does."""

    because: str
    advice: str
    by_onnx: bool = False


PAGE = "docs/backends.md, Models of other backends"
"""Where all of this stands for people to read."""

_LIBRARY = re.compile(r"libtriton_(.+)\.so")


def way_out(backend: str, files: Collection[str]) -> str:
    """Say what to do about a model whose backend is not here; `files` are those of its folder and first version."""
    alternative = ALTERNATIVES.get(backend)
    if alternative is not None:
        beside = alternative.by_onnx and "model.onnx" in files
        advice = f"{alternative.because}; " + (
            'the model.onnx beside it is served with backend: "onnxruntime", without a platform'
            if beside
            else alternative.advice
        )
        return f"{advice} ({PAGE})"
    if any(_LIBRARY.fullmatch(name) for name in files):
        return (
            f"a backend built for Triton as a shared library cannot be loaded: move what it does into a python model, "
            f"or write a backend in Python ({PAGE})"
        )
    return ""


_HANDLED = {
    "tensorflow_savedmodel": 'backend: "openvino" with default_model_filename: "model.savedmodel"',
    "pytorch": 'backend: "pytorch" with the model as TorchScript, or with runtime: "model.py" for its class',
    "pytorch_libtorch": 'backend: "pytorch"',
}
"""Platforms for which Triton's python backend had a handler."""


def without_handler(platform: str) -> str:
    """Say what to do about a python model that has a platform in the place of a model.py; "" for no such platform.

    python_backend/src/resources/platform_handlers: experimental in 23.07 to 23.10, then gone for backends in Python.
    """
    instead = _HANDLED.get(platform)
    if instead is None:
        return ""
    return f"the handler of platform {platform}, which ran it in Triton 23.07 to 23.10, is not here: {instead} ({PAGE})"


ALTERNATIVES: Mapping[str, Alternative] = {
    "tensorrtllm": Alternative(
        "a compiled engine fits one version and GPU, and TensorRT-LLM dropped its engine-based Triton backend",
        'serve the checkpoint it was built from: the backend stays "tensorrtllm", and config.pbtxt names that folder: '
        'parameters { key: "checkpoint" value { string_value: "/models/Llama-3.1-8B-Instruct" } }',
    ),
    "tensorrt": Alternative(
        "a TensorRT plan is bound to one version and GPU and cannot be read here",
        'serve the ONNX file it was built from: backend "onnxruntime", file 1/model.onnx',
        by_onnx=True,
    ),
    "tensorflow": Alternative(
        "the TensorFlow backend is gone from Triton since 25.03 and is not offered here",
        'serve it with backend "openvino", default_model_filename "model.savedmodel"; or convert it: '
        "python -m tf2onnx.convert --saved-model 1/model.savedmodel --output 1/model.onnx",
        by_onnx=True,
    ),
    "dali": Alternative(
        "DALI pipelines need their own C++ backend",
        "run the pipeline in a python model, or do the same steps with Pillow and numpy",
    ),
    "armnn_tflite": Alternative(
        "the Arm NN backend is C++ for Arm", 'serve it with backend "openvino", default_model_filename "model.tflite"'
    ),
    "paddle": Alternative(
        "the Paddle backend is C++", 'serve it with backend "openvino", default_model_filename "model.pdmodel"'
    ),
    "stateful": Alternative(
        "the stateful backend is C++",
        'serve its ONNX model with backend "onnxruntime" and the states in sequence_batching.state',
        by_onnx=True,
    ),
    "fastertransformer": Alternative(
        "FasterTransformer is archived", 'serve the checkpoint it was built from with backend "vllm"'
    ),
}
