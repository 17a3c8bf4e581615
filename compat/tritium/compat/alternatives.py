"""Triton's backends that are not served here: why, and what to do instead. The server and the audit say the same."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alternative:
    """Why models of a backend are not served, and what serves instead."""

    because: str
    advice: str


ALTERNATIVES: Mapping[str, Alternative] = {
    "tensorrtllm": Alternative(
        "a compiled engine fits one version and GPU, and TensorRT-LLM dropped its engine-based Triton backend",
        'serve the checkpoint it was built from: backend "vllm" with that checkpoint in 1/model.json',
    ),
    "tensorrt": Alternative(
        "a TensorRT plan is bound to one version and GPU and cannot be read here",
        'serve the ONNX file it was built from: backend "onnxruntime", file 1/model.onnx',
    ),
    "tensorflow": Alternative(
        "the TensorFlow backend is gone from Triton since 25.03 and is not offered here",
        "python -m tf2onnx.convert --saved-model 1/model.savedmodel --output 1/model.onnx",
    ),
    "dali": Alternative(
        "DALI pipelines need their own C++ backend",
        "run the pipeline in a python model, or do the same steps with Pillow and numpy",
    ),
    "fil": Alternative(
        "the FIL backend is C++", "load the forest in a python model with xgboost, lightgbm or treelite"
    ),
    "fastertransformer": Alternative(
        "FasterTransformer is archived", 'serve the checkpoint it was built from with backend "vllm"'
    ),
}
