"""Platforms that choose Triton's image by themselves: an image of one's own, made from Tritium's, takes its place.

    SageMaker   sagemaker-tritonserver.Dockerfile beside it; the image's address, where it is answered
    Azure ML    an environment that is built from a Dockerfile, its routes, and `custom_model` for `triton_model`

Both start the server in ways of their own, which the entry points written here take. They are made for who asks.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from tritium.migration.deployment import Deployment, Hosted, Platform, Target
from tritium.migration.launches.format import Format
from tritium.migration.launches.image import Role
from tritium.migration.planning.insertion import inserted, replaced
from tritium.migration.planning.plan import Change, NewFile
from tritium.migration.text.source import Source, Span
from tritium.migration.text.tree import Mapping, Scalar, documents

SAGEMAKER_FILE = "tritium-sagemaker.Dockerfile"
AZURE_FILE = "tritium-azureml.Dockerfile"
_SAGEMAKER = """\
# Tritium for SageMaker: build it, push it to ECR, and name it where models are created. SageMaker starts images with
# the word `serve`, unpacks a model at /opt/ml/model, and has multi-model endpoints load theirs by POST /models.
FROM {image}
LABEL com.amazonaws.sagemaker.capabilities.multi-models=true
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
EXPOSE 8080
ENTRYPOINT ["sh", "-c", "\\
  models=/opt/ml/model load=--load-model=${{SAGEMAKER_TRITON_DEFAULT_MODEL_NAME:-*}}; \\
  if [ \\"$SAGEMAKER_MULTI_MODEL\\" = true ]; then models=/tmp/sagemaker load=; mkdir -p $models; fi; \\
  set -f; exec tritonserver --allow-sagemaker=true --allow-http=false --allow-grpc=false --allow-metrics=false \\
    --model-control-mode=explicit --model-repository=$models $load \\
    --sagemaker-port=${{SAGEMAKER_BIND_TO_PORT:-8080}} $SAGEMAKER_TRITON_ADDITIONAL_ARGS"]
"""
_AZURE = """\
# Tritium for an online deployment of Azure ML, which puts the model's folder below AZUREML_MODEL_DIR.
FROM {image}
ENTRYPOINT ["sh", "-c", "exec tritonserver --model-repository=$AZUREML_MODEL_DIR/{folder}"]
"""
_READ_ONLY = {Format.NOTEBOOK, Format.DOCUMENT}
_LITERAL = re.compile(r"""(?P<quote>["'])(?P<image>[^"'\s]*/sagemaker-tritonserver:[^"'\s]*)(?P=quote)""")


def own_containers(deployment: Deployment) -> Iterator[Change]:
    """Yield the changes for what SageMaker and Azure ML host."""
    yield from _sagemaker_file(deployment)
    for host in deployment.hosted:
        if host.platform is Platform.AZUREML and (change := _azure(deployment, host)) is not None:
            yield change


def sagemaker_images(deployment: Deployment) -> Iterator[tuple[Source, Span]]:
    """Yield every address of SageMaker's image of Triton that may be replaced: a whole literal, or a word."""
    for launch in deployment.launches:
        if launch.format in _READ_ONLY:
            continue
        literals = [Span(*match.span("image")) for match in _LITERAL.finditer(launch.source.text)]
        yield from ((launch.source, span) for span in literals)
        for image in launch.images:
            inside = any(span.start <= image.span.start < span.end for span in literals)
            if image.role is Role.SAGEMAKER and image.version and not inside:
                yield launch.source, image.span


def _sagemaker_file(deployment: Deployment) -> Iterator[Change]:
    host = next((one for one in deployment.hosted if one.platform is Platform.SAGEMAKER), None)
    if host is None:
        return
    path = host.source.path.with_name(SAGEMAKER_FILE)
    if not any(path.name == SAGEMAKER_FILE for path in deployment.sources):
        made = NewFile(str(path), _SAGEMAKER.format(image=_image(deployment.target, deployment)))
        message = "an image of Tritium that SageMaker starts: push it to ECR, and answer its address"
        yield Change("L17", str(host.source.path), 0, message, safe=False, creates=[made])


def _image(target: Target, deployment: Deployment) -> str:
    language = any(model.backend in ("vllm", "tensorrtllm") for model in deployment.models)
    return target.vllm_image if language else target.image


def _azure(deployment: Deployment, host: Hosted) -> Change | None:
    """Make an online deployment of a Triton model one with a container of its own; None for what is none."""
    source = host.source
    tree = next((t for t in documents(source) if isinstance(t, Mapping) and t.has("endpoint_name", "model")), None)
    kind = tree.get("model", "type") if tree is not None else None
    if tree is None or not isinstance(kind, Scalar) or kind.span != host.span or tree.has("environment"):
        return None
    folder = PurePosixPath(tree.text("model", "path")).name
    if not folder or not re.fullmatch(r"[\w.-]+", folder):
        return None
    lines = ["environment:", "  build:", "    path: .", f"    dockerfile_path: {AZURE_FILE}", "  inference_config:"]
    routes = {"liveness": "/v2/health/live", "readiness": "/v2/health/ready", "scoring": "/"}
    for route, path in routes.items():
        lines += [f"    {route}_route:", f"      path: {path}", "      port: 8000"]
    pieces = inserted(source, tree, *lines)
    if not pieces:
        return None
    pieces.append(replaced(source.path, kind.span, "custom_model"))
    made = NewFile(str(source.path.with_name(AZURE_FILE)), _AZURE.format(image=deployment.target.image, folder=folder))
    message = f"{tree.text('name') or 'the deployment'} brings a container of Tritium"
    line = source.place(host.span.start)[0]
    return Change("L18", str(source.path), line, message, safe=False, pieces=pieces, creates=[made])
