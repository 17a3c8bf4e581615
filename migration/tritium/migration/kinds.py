"""The kinds of models Triton serves, and how each fares on Tritium: one table, read by the audit and its tests."""

import re
from dataclasses import dataclass

from tritium.compat.alternatives import ALTERNATIVES
from tritium.compat.config.defaults import FAMILIES
from tritium.migration.finding import Verdict


@dataclass(frozen=True, slots=True)
class Kind:
    """One backend as configurations name it, under all its names, with what becomes of its models."""

    name: str
    names: frozenset[str]
    verdict: Verdict
    because: str
    advice: str = ""


def _kind(name: str, *others: str, verdict: Verdict, because: str, advice: str = "") -> Kind:
    return Kind(name, frozenset({name, *others}), verdict, because, advice)


def _instead(name: str, *others: str, verdict: Verdict) -> Kind:
    alternative = ALTERNATIVES[name]
    return _kind(name, *others, verdict=verdict, because=alternative.because, advice=alternative.advice)


TRIAL = ("repeat", "square", "sequence", "dyna_sequence", "iterative_sequence", "implicit_state")
"""Backends that compute nothing of use."""

KINDS: tuple[Kind, ...] = (
    _kind("python", verdict=Verdict.SERVES, because="model.py runs in a process of its own, with the same pb_utils"),
    _kind(
        "onnxruntime",
        "onnxruntime_onnx",
        verdict=Verdict.SERVES,
        because="onnxruntime runs it (install Tritium with the extra onnx; make serve does)",
    ),
    _kind(
        "pytorch",
        "pytorch_libtorch",
        "torch_aoti",
        verdict=Verdict.SERVES,
        because="torch runs it in a process of its own (install Tritium with the extra torch)",
    ),
    _kind(
        "openvino",
        verdict=Verdict.SERVES,
        because="OpenVINO runs it on the CPU, in a process of its own (install Tritium with the extra openvino)",
    ),
    _kind(
        "fil",
        verdict=Verdict.SERVES,
        because="Treelite predicts it on the CPU, in a process of its own (install Tritium with the extra fil)",
    ),
    _kind("ensemble", verdict=Verdict.SERVES, because="the graph is run step by step, by the same tensor names"),
    _kind("identity", verdict=Verdict.SERVES, because="built in"),
    *(_kind(name, verdict=Verdict.SERVES, because="built in, to try a server with") for name in TRIAL),
    _kind(
        "vllm",
        verdict=Verdict.SERVES,
        because="1/model.json goes to vLLM as it is (install Tritium with the extra vllm; make serve ENGINE=vllm does)",
        advice="it gains the OpenAI API on port 9000 under the same model name",
    ),
    _instead("tensorrtllm", "tensorrt_llm", verdict=Verdict.CONVERT),
    _instead("tensorrt", "tensorrt_plan", verdict=Verdict.CONVERT),
    _instead("tensorflow", "tensorflow_savedmodel", "tensorflow_graphdef", verdict=Verdict.CONVERT),
    _instead("fastertransformer", verdict=Verdict.CONVERT),
    _instead("dali", verdict=Verdict.UNSUPPORTED),
    _instead("armnn_tflite", verdict=Verdict.CONVERT),
    _instead("paddle", verdict=Verdict.CONVERT),
    _instead("stateful", verdict=Verdict.CONVERT),
    *(
        _kind(
            name,
            verdict=Verdict.UNSUPPORTED,
            because="it was removed from Triton long ago",
            advice="move the code into a python model",
        )
        for name in ("caffe2_netdef", "custom")
    ),
)

BY_NAME: dict[str, Kind] = {name: kind for kind in KINDS for name in kind.names}

# What a model of a kind that is served is, where its configuration names no other file; Triton knows no file of vllm's.
FILES: dict[str, str] = {family.backend: family.filename for family in reversed(FAMILIES)} | {"vllm": "model.json"}

# Triton picks the backend by the file where a configuration names none; two more tell theirs to a reader as well.
BY_FILE: dict[str, str] = {family.filename: family.backend for family in FAMILIES} | {
    "model.json": "vllm",
    "model.dali": "dali",
}

EXPLICIT = frozenset({"identity", "pytorch", *TRIAL})
"""Kinds whose configuration must have inputs and outputs in full: nothing completes them from the model."""

_HINTS = {
    "tensorflow": "tf|tensorflow|savedmodel|graphdef",
    "tensorrt": "trt|tensorrt|plan",
    "onnxruntime": "onnx|onnxruntime",
    "pytorch": "torch|pytorch|libtorch|torchscript",
    "python": "python",
    "openvino": "openvino",
    "dali": "dali",
    "fil": "xgb|xgboost|lightgbm|fil",
}
_HINT = {kind: re.compile(rf"(?:^|[_\W\d])(?:{words})(?:$|[_\W\d])", re.IGNORECASE) for kind, words in _HINTS.items()}


def likely_kind(name: str) -> str:
    """Return the kind that a model's name speaks of, where nothing else tells; "" for none, or for several."""
    found = [kind for kind, pattern in _HINT.items() if pattern.search(name)]
    return found[0] if len(found) == 1 else ""


ENGINE_PARAMETERS = re.compile(
    r"""["'](gpt_model_path|gpt_model_type|engine_dir|encoder_model_path|model_checkpoint_path)["']"""
)
"""Parameters that only an engine of TensorRT-LLM or FasterTransformer has, whatever backend its template names."""
