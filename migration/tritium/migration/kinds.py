"""The kinds of models Triton serves, and how each fares on Tritium: one table, read by the audit and its tests."""

from dataclasses import dataclass

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


KINDS: tuple[Kind, ...] = (
    _kind("python", verdict=Verdict.SERVES, because="model.py runs in a process of its own, with the same pb_utils"),
    _kind(
        "onnxruntime",
        "onnxruntime_onnx",
        verdict=Verdict.SERVES,
        because="onnxruntime runs it (pip install tritium[onnx])",
    ),
    _kind("ensemble", verdict=Verdict.SERVES, because="the graph is run step by step, by the same tensor names"),
    _kind("identity", verdict=Verdict.SERVES, because="built in"),
    _kind(
        "vllm",
        verdict=Verdict.SERVES,
        because="1/model.json goes to vLLM as it is (pip install tritium[vllm])",
        advice="it gains the OpenAI API on port 9000 under the same model name",
    ),
    _kind(
        "tensorrtllm",
        "tensorrt_llm",
        verdict=Verdict.CONVERT,
        because="a compiled engine fits one version and GPU, and TensorRT-LLM dropped its engine-based Triton backend",
        advice='serve the checkpoint it was built from: backend "vllm" with that checkpoint in 1/model.json',
    ),
    _kind(
        "tensorrt",
        "tensorrt_plan",
        verdict=Verdict.CONVERT,
        because="a TensorRT plan is bound to one version and GPU and cannot be read here",
        advice='serve the ONNX file it was built from: platform "onnxruntime_onnx", file 1/model.onnx',
    ),
    _kind(
        "pytorch",
        "pytorch_libtorch",
        verdict=Verdict.UNSUPPORTED,
        because="there is no TorchScript backend in this version",
        advice="export it with torch.onnx.export, or load it in a python model with torch.jit.load",
    ),
    _kind(
        "torch_aoti",
        verdict=Verdict.UNSUPPORTED,
        because="there is no AOTInductor backend in this version",
        advice="export it with torch.onnx.export, or load it in a python model with torch._inductor.aoti_load_package",
    ),
    _kind(
        "openvino",
        verdict=Verdict.UNSUPPORTED,
        because="there is no OpenVINO backend in this version",
        advice="serve the ONNX model it was made from, or run openvino in a python model",
    ),
    _kind(
        "tensorflow",
        "tensorflow_savedmodel",
        "tensorflow_graphdef",
        verdict=Verdict.CONVERT,
        because="the TensorFlow backend is gone from Triton since 25.03 and is not offered here",
        advice="python -m tf2onnx.convert --saved-model 1/model.savedmodel --output 1/model.onnx",
    ),
    _kind(
        "dali",
        verdict=Verdict.UNSUPPORTED,
        because="DALI pipelines need their own C++ backend",
        advice="run the pipeline in a python model, or do the same steps with Pillow and numpy",
    ),
    _kind(
        "fil",
        verdict=Verdict.UNSUPPORTED,
        because="the FIL backend is C++",
        advice="load the forest in a python model with xgboost, lightgbm or treelite",
    ),
    _kind(
        "fastertransformer",
        verdict=Verdict.CONVERT,
        because="FasterTransformer is archived",
        advice='serve the checkpoint it was built from with backend "vllm"',
    ),
    _kind(
        "caffe2_netdef",
        "custom",
        verdict=Verdict.UNSUPPORTED,
        because="it was removed from Triton long ago",
        advice="move the code into a python model",
    ),
)

BY_NAME: dict[str, Kind] = {name: kind for kind in KINDS for name in kind.names}

# Triton picks the backend by the file where a configuration names none; two more tell theirs to a reader as well.
BY_FILE: dict[str, str] = {family.filename: family.backend for family in FAMILIES} | {
    "model.json": "vllm",
    "model.dali": "dali",
}
