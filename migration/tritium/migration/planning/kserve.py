"""KServe: a ServingRuntime with Tritium's image beside KServe's own, and InferenceServices that name it.

    predictor: {model: {modelFormat: {name: triton}}}   gains runtime: tritium
    predictor: {model: {runtime: kserve-tritonserver}}  names tritium instead
    predictor: {triton: {storageUri: ...}}              becomes predictor.model

The runtime has to be in the cluster before a service names it, so these changes are unsafe.
"""

from collections.abc import Iterator

from tritium.migration.deployment import Deployment, Platform
from tritium.migration.planning.insertion import inserted, replaced
from tritium.migration.planning.plan import Change, NewFile, Piece
from tritium.migration.text.source import Source, Span
from tritium.migration.text.tree import Mapping, Scalar, documents

RUNTIME = "tritium"
_RUNTIME = """\
# Tritium for InferenceServices of the model format triton: kubectl apply it before those that name it.
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata:
  name: {name}
{namespace}spec:
  supportedModelFormats:
    - name: triton
      version: "2"
  protocolVersions:
    - v2
    - grpc-v2
  containers:
    - name: kserve-container
      image: {image}
      args:
        - tritonserver
        - --model-repository=/mnt/models
        - --http-port=8080
        - --grpc-port=9000
      env:
        # KServe has gRPC on port 9000, where OpenAI's API would be.
        - name: TRITIUM_OPENAI
          value: "0"
      resources:
        requests:
          cpu: "1"
          memory: 2Gi
"""


def runtimes(deployment: Deployment) -> Iterator[Change]:
    """Yield a change for every InferenceService that KServe serves with Triton."""
    for host in deployment.hosted:
        if host.platform is not Platform.KSERVE:
            continue
        source, at = host.source, host.span
        for tree in documents(source):
            if isinstance(tree, Mapping) and tree.span.start <= at.start < tree.span.end:
                predictor = tree.get("spec", "predictor")
                if isinstance(predictor, Mapping) and (pieces := list(_pieces(source, predictor))):
                    message = f"{host.what} is served by the ServingRuntime {RUNTIME}"
                    line, made = source.place(at.start)[0], _runtime(deployment, source, tree)
                    yield Change("L15", str(source.path), line, message, safe=False, pieces=pieces, creates=made)


def _runtime(deployment: Deployment, source: Source, service: Mapping) -> list[NewFile]:
    """Return the runtime's file, beside the service's and in its namespace; none where it is there."""
    namespace = service.text("metadata", "namespace")
    path = source.path.with_name(f"{'-'.join(part for part in (RUNTIME, namespace) if part)}-runtime.yaml")
    if (deployment.root / path).exists():
        return []
    spaced = f"  namespace: {namespace}\n" if namespace else ""
    return [NewFile(str(path), _RUNTIME.format(name=RUNTIME, namespace=spaced, image=deployment.target.image))]


def _pieces(source: Source, predictor: Mapping) -> Iterator[Piece]:
    runtime, form = predictor.get("model", "runtime"), predictor.get("model", "modelFormat", "name")
    if isinstance(runtime, Scalar):
        if "triton" in runtime.text:
            yield replaced(source.path, runtime.span, RUNTIME)
    elif isinstance(form, Scalar) and form.text == "triton":
        model = predictor.get("model")
        if isinstance(model, Mapping):
            yield from inserted(source, model, f"runtime: {RUNTIME}")
    else:
        yield from _legacy(source, predictor)


def _legacy(source: Source, predictor: Mapping) -> Iterator[Piece]:
    """Make `predictor.triton` what it is today; one that says no more than a version is left alone."""
    for key, value in predictor.entries:
        if key.text != "triton" or not isinstance(value, Mapping) or not value.text("storageUri"):
            continue
        version = next((name for name, _ in value.entries if name.text == "runtimeVersion"), None)
        head = inserted(source, value, "modelFormat:", "  name: triton", f"runtime: {RUNTIME}")
        if not head:
            return
        yield replaced(source.path, key.span, "model")
        yield from head
        if version is not None:
            yield replaced(source.path, _whole(source, value, version), "")


def _whole(source: Source, mapping: Mapping, key: Scalar) -> Span:
    """Return the span of a key with its value: its line, or, where it is the first, what goes before the second."""
    keys = [name for name, _ in mapping.entries]
    if keys[0] is key:
        return Span(key.span.start, keys[1].span.start)
    start = source.text.rfind("\n", 0, key.span.start) + 1
    return Span(start, source.text.find("\n", key.span.start) + 1 or len(source.text))
