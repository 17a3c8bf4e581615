"""Rules of what a model does: calls to other models, packages, caches, streams, environments, accelerators."""

import ast
import re
import sys
from collections.abc import Iterator

from tritium.migration.deployment import Deployment
from tritium.migration.finding import Finding, Severity
from tritium.migration.rules.rule import Rule
from tritium.migration.text.source import Source, Span
from tritium.migration.text.tree import Mapping, Scalar, documents

_OURS = {"triton_python_backend_utils", "c_python_backend_utils", "__future__", "model", "triton_python_model"}


class BusinessLogic(Rule):
    """A python model that calls other models (BLS).

    It runs as it is: `InferenceRequest`, `exec`, `async_exec` and decoupled answers are those of Triton. A model that
    is called by a name that is not in this repository must be in the one that is deployed.

    Before models/all/config.pbtxt:

        backend: "python"

    Before models/all/1/model.py:

        import triton_python_backend_utils as pb_utils

        class TritonPythonModel:
            def execute(self, requests):
                return [pb_utils.InferenceRequest(model_name="resnet", inputs=[]).exec()]

    Finds: calls 'resnet', which is no model of this repository
    """

    id = "M09"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find the names of models that are called, at the first call of each."""
        for model in deployment.models:
            if model.backend != "python":
                continue
            known = {m.name for m in deployment.models if m.repository == model.repository}
            for source in deployment.files_of(model):
                if "InferenceRequest(" not in source.text:
                    continue
                called: dict[str, Span] = {}
                for match in re.finditer(r"\bmodel_name\s*=\s*[\"']([^\"'{}]+)[\"']", source.text):
                    called.setdefault(match[1], Span(match.start(1), match.end(1)))
                for name, span in called.items():
                    if name not in known and not model.template:
                        message = f"calls '{name}', which is no model of this repository"
                        yield self.at(source, span, message, "put it beside this one", about=model.place)


class Packages(Rule):
    """A python model imports packages that have to be where it runs.

    Install them in the image, or give the model an environment of its own (`EXECUTION_ENV_PATH`).

    Before models/pre/config.pbtxt:

        backend: "python"

    Before models/pre/1/model.py:

        import numpy as np
        import cv2
        import triton_python_backend_utils as pb_utils

    Finds: cv2
    """

    id = "M10"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find packages besides Python's own and numpy."""
        for model in deployment.models:
            if model.backend == "python":
                names: dict[str, None] = {}
                local = {s.path.stem for s in deployment.files_of(model)} | {
                    part for s in deployment.files_of(model) for part in s.path.parts
                }
                for source in deployment.files_of(model):
                    names |= dict.fromkeys(name for name in _imports(source) if name not in local)
                if names:
                    yield self.of(model, f"its code needs {', '.join(list(names)[:8])}", "install them where it runs")


def _imports(source: Source) -> Iterator[str]:
    try:
        tree = ast.parse(source.text.lstrip("\ufeff"))
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [node.module]
        for name in found:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in _OURS and top != "numpy":
                yield top


class CacheWithoutServer(Rule):
    """A model asks for the response cache, and the server is started without one.

    `response_cache { enable: true }` does nothing without `--cache-config` (on Triton either).

    Before models/net/config.pbtxt:

        backend: "onnxruntime"
        response_cache { enable: true }

    Before start.sh:

        tritonserver --model-repository=models

    Finds: without --cache-config
    """

    id = "M25"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find models with a cache where no command has one."""
        commands = [command for _, command in deployment.commands() if not command.launches_ranks]
        if commands and not any(c.values("cache-config", "response-cache-byte-size") for c in commands):
            for model in deployment.models:
                if model.config.response_cache.enable:
                    message = "asks for the response cache, and the server is started without --cache-config"
                    advice = "add --cache-config=local,size=BYTES to have one"
                    yield self.of(model, message, advice, field=("response_cache",), already=True)


class RateLimiter(Rule):
    """A model names resources of the rate limiter, and the server is started without it.

    `rate_limiter` counts only with `--rate-limit=execution_count`.

    Before models/net/config.pbtxt:

        backend: "onnxruntime"
        instance_group [ { rate_limiter { resources [ { name: "R" count: 1 } ] } } ]

    Before start.sh:

        tritonserver --model-repository=models

    Finds: without --rate-limit
    """

    id = "M26"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find models with resources where no command limits."""
        commands = [command for _, command in deployment.commands() if not command.launches_ranks]
        if commands and not any(c.values("rate-limit") for c in commands):
            for model in deployment.models:
                if any(group.HasField("rate_limiter") for group in model.config.instance_group):
                    message = "names resources of the rate limiter, and the server is started without --rate-limit"
                    yield self.of(model, message, "add --rate-limit=execution_count to have it count", already=True)


class Warmup(Rule):
    """A model is warmed up before it is ready.

    Warm-up runs as on Triton: readiness waits for it, and a sample that fails fails the load.

    Before models/net/config.pbtxt:

        backend: "onnxruntime"
        model_warmup [ { name: "zeros" batch_size: 1 inputs {
          key: "x" value { data_type: TYPE_FP32 dims: [ 3 ] zero_data: true } } } ]

    Finds: warmed up
    """

    id = "M27"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find models with samples."""
        for model in deployment.models:
            if model.config.model_warmup:
                yield self.of(model, "is warmed up before it is ready, as on Triton", field=("model_warmup",))


class Decoupled(Rule):
    """A decoupled model answers a request with any number of responses.

    Its clients stream: gRPC streams or `generate_stream`. HTTP infer refuses decoupled models, on Triton as here.

    Before models/tts/config.pbtxt:

        backend: "python"
        model_transaction_policy { decoupled: true }

    Finds: decoupled
    """

    id = "M28"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find decoupled models."""
        for model in deployment.models:
            if model.config.model_transaction_policy.decoupled:
                field = ("model_transaction_policy", "decoupled")
                yield self.of(model, "is decoupled: its clients stream, HTTP infer refuses it", field=field)


class OwnEnvironment(Rule):
    """A python model brings a Python environment of its own.

    conda-pack archives and folders named by `EXECUTION_ENV_PATH` are unpacked and run as on Triton, with the
    environment's own Python. `$$TRITON_MODEL_DIRECTORY` is the model's folder.

    Before models/pre/config.pbtxt:

        backend: "python"
        parameters { key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/env.tar.gz" } }

    Finds: environment of its own
    """

    id = "M29"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find the parameter."""
        for model in deployment.models:
            if "EXECUTION_ENV_PATH" in model.config.parameters:
                path = model.config.parameters["EXECUTION_ENV_PATH"].string_value
                yield self.of(model, f"brings a Python environment of its own ({path})")


class Accelerators(Rule):
    """An ONNX model asks for an accelerator: TensorRT or OpenVINO within onnxruntime.

    onnxruntime uses the execution providers that it was built with; one that is not there is left out, and the model
    runs on the next. Results may differ in the last digits, and the speed does.

    Before models/net/config.pbtxt:

        platform: "onnxruntime_onnx"
        optimization { execution_accelerators { gpu_execution_accelerator [ { name: "tensorrt" } ] } }

    Finds: tensorrt
    """

    id = "M30"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find accelerators by name."""
        for model in deployment.models:
            wanted = model.config.optimization.execution_accelerators
            names = [a.name for a in (*wanted.gpu_execution_accelerator, *wanted.cpu_execution_accelerator)]
            if names:
                message = f"asks onnxruntime for {', '.join(names)}, which is used where onnxruntime has it"
                yield self.of(model, message, field=("optimization",))


class WrittenAtStart(Rule):
    """A script writes or fills in configurations before the server starts.

    What it writes is not here to be audited. Run the script, and audit the repository that comes of it.

    Before prepare.sh:

        envsubst < templates/config.pbtxt > /models/net/config.pbtxt
        tritonserver --model-repository=/models

    Finds: writes configurations
    """

    id = "M31"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find such scripts, at the first place that writes."""
        for source in deployment.sources.values():
            if source.path.suffix in (".sh", ".py", ".bash", "") and (match := _WRITES.search(source.text)):
                message = "writes configurations of models when it runs"
                yield self.at(source, Span(*match.span()), message, "run it, and audit the repository that it makes")


_WRITES = re.compile(
    r"fill_template\.py|envsubst[^\n]*config\.pbtxt|sed\s+-i[^\n]*config\.pbtxt|>\s*\S*config\.pbtxt"
    r"|open\([^)\n]*config\.pbtxt[\"']?,\s*[\"']w"
)


class Embedded(Rule):
    """A model's configuration stands inside another file: a ConfigMap of Kubernetes, or a chart's.

    It is written into the repository when the pod starts. It is judged by its backend alone; take it out to have it
    audited in full.

    Before models.yaml:

        apiVersion: v1
        kind: ConfigMap
        metadata: { name: models }
        data:
          config.pbtxt: |
            backend: "onnxruntime"
            max_batch_size: 8

    Before start.sh:

        tritonserver --model-repository=/models

    Finds: config.pbtxt
    """

    id = "M37"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find configurations in ConfigMaps."""
        for source in deployment.sources.values():
            if source.path.suffix in (".yaml", ".yml") and "config.pbtxt" in source.text:
                for tree in documents(source):
                    data = tree.get("data") if isinstance(tree, Mapping) else None
                    for key, value in data.entries if isinstance(data, Mapping) else ():
                        if key.text.endswith(("config.pbtxt", ".pbtxt")) and isinstance(value, Scalar):
                            backend = re.search(r"(?:backend|platform)\s*:\s*[\"']([^\"']+)", value.text)
                            kind = f" for {backend[1]}" if backend else ""
                            message = f"{key.text} stands inside this file: a configuration{kind}"
                            yield self.at(source, key.span, message, "audit the repository that it is written to")


RULES = (
    *(BusinessLogic, Packages, CacheWithoutServer, RateLimiter, Warmup, Decoupled, OwnEnvironment, Accelerators),
    *(WrittenAtStart, Embedded),
)
