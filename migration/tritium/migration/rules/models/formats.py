"""Rules of model formats: what runs here, what is made anew, what needs its shared library."""

import re
from collections.abc import Iterator

from tritium.compat.alternatives import ALTERNATIVES
from tritium.migration.deployment import Deployment
from tritium.migration.finding import Finding, Severity
from tritium.migration.found import Found
from tritium.migration.rules.rule import Rule
from tritium.migration.text.source import Span
from tritium.migration.text.words import PLACEHOLDER

_COPIED = re.compile(r"^[ \t]*(?:COPY|ADD)\s+.*?/backends/(\w+)/?.*$", re.MULTILINE)
_LIBRARY = re.compile(r"(?:^|/)lib[\w.-]+\.so(?:\.\d+)*$")


class TorchScript(Rule):
    """A TorchScript model runs as it is, if the operations in it are torch's own.

    torch reads older archives. Operations of other packages (torchvision, detectron2) must be imported, or their
    library loaded, before the model; a model that needs a shared library is best turned into a python model.

    Before models/net/config.pbtxt:

        platform: "pytorch_libtorch"

    Finds: TorchScript
    """

    id = "M11"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every model of the pytorch backend."""
        for model in _of_kind(deployment, "pytorch"):
            yield self.of(
                model,
                "TorchScript runs in torch; operations of other packages need those packages",
                field=_named(model),
            )


class TensorRtPlan(Rule):
    """A TensorRT plan is bound to one version of TensorRT and one kind of GPU.

    It is made anew from what it was built from: the ONNX file is served by onnxruntime. Where `model.onnx` lies beside
    the plan, nothing else is needed.

    Before models/net/config.pbtxt:

        platform: "tensorrt_plan"

    Finds: bound to one version and GPU
    """

    id = "M12"
    severity = Severity.REBUILD

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every plan."""
        for model in _of_kind(deployment, "tensorrt"):
            beside = any("model.onnx" in files for files in model.folder.versions.values())
            advice = (
                'serve the model.onnx beside it: backend "onnxruntime", without a platform'
                if beside
                else ALTERNATIVES["tensorrt"].advice
            )
            yield self.of(model, ALTERNATIVES["tensorrt"].because, advice, field=_named(model))


class TensorFlowModel(Rule):
    """TensorFlow left Triton with 25.03, and is not here.

    A SavedModel is served by OpenVINO, or converted to ONNX with tf2onnx.

    Before models/net/config.pbtxt:

        platform: "tensorflow_savedmodel"

    Finds: TensorFlow backend is gone
    """

    id = "M13"
    severity = Severity.REBUILD

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every model of TensorFlow."""
        for model in _of_kind(deployment, "tensorflow"):
            alternative = ALTERNATIVES["tensorflow"]
            yield self.of(model, alternative.because, alternative.advice, field=_named(model))


class OpenVinoModel(Rule):
    """OpenVINO runs on the CPU here.

    Its own formats, ONNX, TensorFlow and Paddle files are read.

    Before models/net/config.pbtxt:

        backend: "openvino"

    Finds: on the CPU
    """

    id = "M14"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every model of OpenVINO."""
        for model in _of_kind(deployment, "openvino"):
            yield self.of(model, "OpenVINO runs it on the CPU", field=_named(model))


class DaliPipeline(Rule):
    """A DALI pipeline needs DALI's C++ backend.

    The pipeline runs in a python model (`nvidia.dali` on a machine with a GPU), or its steps are done with Pillow and
    numpy.

    Before models/pre/config.pbtxt:

        backend: "dali"

    Finds: DALI
    """

    id = "M15"
    severity = Severity.BLOCKER

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every DALI pipeline."""
        for model in _of_kind(deployment, "dali"):
            alternative = ALTERNATIVES["dali"]
            yield self.of(model, alternative.because, alternative.advice, field=_named(model))


class Forest(Rule):
    """A forest of XGBoost, LightGBM or Treelite is predicted by Treelite on the CPU.

    Parameters of the GPU (`storage_type`, `blocks_per_sm`, `algo`) change nothing. cuML's and sklearn's pickles are
    exported to a Treelite checkpoint first.

    Before models/fraud/config.pbtxt:

        backend: "fil"
        parameters { key: "model_type" value { string_value: "xgboost_json" } }

    Finds: Treelite
    """

    id = "M16"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every forest."""
        for model in _of_kind(deployment, "fil"):
            yield self.of(model, "Treelite predicts it on the CPU", field=_named(model))


class OtherFormat(Rule):
    """A format of a backend that is rare, or was removed from Triton.

    Before models/net/config.pbtxt:

        backend: "armnn_tflite"

    Finds: Arm NN
    """

    id = "M17"
    severity = Severity.REBUILD

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every model of the other backends that are not here."""
        for name in ("armnn_tflite", "paddle", "stateful", "caffe2_netdef", "custom"):
            for model in _of_kind(deployment, name):
                kind = model.kind
                if kind is not None:
                    gravity = Severity.BLOCKER if name in ("caffe2_netdef", "custom") else None
                    yield self.of(model, kind.because, kind.advice, field=_named(model), severity=gravity)


class SharedLibrary(Rule):
    """A backend or plugin built for Triton as a shared library cannot be loaded.

    What it does moves into a python model, or into a backend written in Python. A library that is only preloaded
    (TensorRT plugins) went with the engines that needed it.

    Before models/net/config.pbtxt:

        backend: "my_own"

    Before models/net/1/libtriton_my_own.so:

        (a library)

    Finds: backend 'my_own' is a shared library
    """

    id = "M18"
    severity = Severity.BLOCKER

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find models whose backend is a library, and libraries copied into Triton's backends."""
        for model in deployment.models:
            if model.kind is None and model.backend and model.code is None and not PLACEHOLDER.search(model.backend):
                files = {name for version in model.folder.versions.values() for name in version}
                known = any(_LIBRARY.search(name) for name in files)
                message = (
                    f"backend '{model.backend}' is a shared library built for Triton, which cannot be loaded"
                    if known
                    else f"backend '{model.backend}' is not known here; as a shared library it cannot be loaded"
                )
                yield self.of(model, message, "move what it does into a python model", field=_named(model))
        for launch in deployment.launches:
            for match in _COPIED.finditer(launch.source.text):
                if match[1] != "python" and ".so" in match.group():
                    span = Span(match.start(1), match.end(1))
                    advice = "models of this backend need another; see their findings"
                    yield self.at(launch.source, span, f"copies the library of backend '{match[1]}'", advice)


class PythonBackend(Rule):
    """A backend written in Python is served from `--backend-directory`.

    The folder `backends/NAME` with its `model.py` stays; every model with `backend: "NAME"` is an instance of it.

    Before models/net/config.pbtxt:

        backend: "mine"

    Before backends/mine/model.py:

        class TritonPythonModel: ...

    Finds: written in Python
    """

    id = "M19"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find models whose backend is here as Python."""
        for model in deployment.models:
            if model.code is not None:
                message = f"backend '{model.backend}' is written in Python ({model.code})"
                advice = f"start with --backend-directory={model.code.parent.parent}"
                yield self.of(model, message, advice, field=_named(model))


def _of_kind(deployment: Deployment, name: str) -> Iterator[Found]:
    return (model for model in deployment.models if model.kind is not None and model.kind.name == name)


def _named(model: Found) -> tuple[str, ...]:
    """Return the field of the configuration that names the backend."""
    if model.bare:
        return ()
    text = model.parsed.places.source.text
    for field in ("backend", "platform"):
        if re.search(rf"^\s*{field}\s*:", text, re.MULTILINE):
            return (field,)
    return ()


RULES = (
    *(TorchScript, TensorRtPlan, TensorFlowModel, OpenVinoModel, DaliPipeline, Forest, OtherFormat),
    *(SharedLibrary, PythonBackend),
)
