"""Platforms that start Triton themselves: KServe, Seldon, SageMaker, Vertex AI, Azure ML; and PyTriton, in-process."""

import re
from collections.abc import Iterator

from tritium.migration.deployment import Hosted, Platform
from tritium.migration.launches.format import Format
from tritium.migration.launches.reading import Reading
from tritium.migration.text.source import Source, Span
from tritium.migration.text.tree import Mapping, Scalar, Sequence, walk

_CAPABILITIES = {"triton", "dali", "fil", "onnx", "openvino", "pytorch", "tensorflow", "tensorrt"}
"""What Seldon's own configuration of its Triton servers says they serve, and MLServer's does not."""

_IN_CODE: tuple[tuple[Platform, str, re.Pattern[str]], ...] = (
    (Platform.SAGEMAKER, "endpoint", re.compile(r"sagemaker-tritonserver")),
    (Platform.SAGEMAKER, "endpoint", re.compile(r"SAGEMAKER_TRITON_\w+")),
    (Platform.VERTEX, "endpoint", re.compile(r"--vertex-ai-default-model|\bAIP_(?:MODE|STORAGE_URI|HTTP_PORT)\b")),
    (Platform.VERTEX, "endpoint", re.compile(r"gcloud (?:beta )?ai models upload|serving_container_image_uri")),
    (
        Platform.AZUREML,
        "model",
        re.compile(r"AssetTypes\.TRITON_MODEL|--type[ =]triton_model|\btype\s*=\s*[\"']triton_model"),
    ),
    (Platform.PYTRITON, "program", re.compile(r"^[ \t]*(?:from|import) pytriton\b", re.MULTILINE)),
    (
        Platform.IN_PROCESS,
        "program",
        re.compile(r"^[ \t]*import tritonserver\b|\bTRITONSERVER_ServerNew\b", re.MULTILINE),
    ),
)
_NAMED = re.compile(r"(?<![a-z])triton(?!client)", re.IGNORECASE)
_CODE = {Format.PYTHON, Format.NOTEBOOK, Format.SHELL, Format.DOCKERFILE, Format.MAKEFILE, Format.HCL, Format.TEXT}
_SUFFIXES = (".cc", ".cpp", ".cxx", ".h", ".hpp", ".c", ".rs")


def hosted(reading: Reading) -> Iterator[Hosted]:
    """Yield what a file has a platform run Triton for."""
    source, code = reading.source, reading.code
    for tree in reading.trees:
        if isinstance(tree, Mapping):
            yield from _described(tree, source)
    if reading.form in _CODE or source.path.suffix in _SUFFIXES:
        seen = set()
        for platform, what, pattern in _IN_CODE:
            match = pattern.search(code)
            # Models of any kind are uploaded to Vertex AI; these are Triton's only where the file says so.
            if match and platform not in seen and (platform is not Platform.VERTEX or "tritonserver" in code):
                seen.add(platform)
                yield Hosted(platform, what, source, Span(*match.span()))


def _described(tree: Mapping, source: Source) -> Iterator[Hosted]:
    version, kind = tree.text("apiVersion"), tree.text("kind")
    name = tree.text("metadata", "name")
    if version.startswith(("serving.kserve.io", "serving.kubeflow.org")):
        for span in _kserve(tree, kind):
            yield Hosted(Platform.KSERVE, f"{kind} {name}", source, span)
    elif version.startswith(("mlops.seldon.io", "machinelearning.seldon.io")):
        for span in _seldon(tree, kind, name):
            yield Hosted(Platform.SELDON, f"{kind} {name}", source, span)
    for model in (tree, tree.get("model")):
        if isinstance(model, Mapping) and isinstance(node := model.get("type"), Scalar) and node.text == "triton_model":
            what = "model" if model is tree else "deployment"
            yield Hosted(Platform.AZUREML, f"{what} {tree.text('name')}".strip(), source, node.span)


def _kserve(tree: Mapping, kind: str) -> Iterator[Span]:
    if kind == "InferenceService":
        for path in (("spec", "predictor"), ("spec", "default", "predictor")):
            predictor = tree.get(*path)
            if not isinstance(predictor, Mapping):
                continue
            for key, _ in predictor.entries:
                if key.text in ("triton", "tensorrt"):
                    yield key.span
            runtime, form = predictor.get("model", "runtime"), predictor.get("model", "modelFormat", "name")
            for node in (runtime, form):
                if isinstance(node, Scalar) and _NAMED.search(node.text):
                    yield node.span
                    break
    elif kind in ("ServingRuntime", "ClusterServingRuntime"):
        for keys, node in walk(tree):
            if isinstance(node, Scalar) and keys[-1:] in (("name",), ("image",)) and _NAMED.search(node.text):
                yield node.span
                break
    elif kind == "TrainedModel":
        framework = tree.get("spec", "model", "framework")
        if isinstance(framework, Scalar) and framework.text.strip() in _CAPABILITIES:
            yield framework.span


def _seldon(tree: Mapping, kind: str, name: str) -> Iterator[Span]:
    for keys, node in walk(tree):
        if isinstance(node, Scalar) and keys[-1:] == ("implementation",) and node.text == "TRITON_SERVER":
            yield node.span
    wanted = tree.get("spec", "requirements")
    if kind == "Model" and isinstance(wanted, Sequence):
        items = [item for item in wanted.items if isinstance(item, Scalar)]
        if items and (item := next((i for i in items if i.text in _CAPABILITIES), None)) is not None:
            yield item.span
    if kind in ("Server", "ServerConfig") and _NAMED.search(name + tree.text("spec", "serverConfig")):
        called = tree.get("metadata", "name")
        if isinstance(called, Scalar):
            yield called.span
