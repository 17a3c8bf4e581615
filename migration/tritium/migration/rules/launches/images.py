"""Rules of images: the server's, the client's, and others' in which Triton runs."""

from collections.abc import Iterator

from tritium.migration.deployment import Deployment, Launch, Target
from tritium.migration.finding import Finding, Severity
from tritium.migration.launches.format import Format
from tritium.migration.launches.image import Image, Role
from tritium.migration.rules.rule import Rule
from tritium.migration.text.edit import Edit, Fix

_READ_ONLY = {Format.NOTEBOOK, Format.DOCUMENT}
_ANALYZED = "triton_docker_image"
"""A setting of model-analyzer, which starts Triton itself."""


class ServerImage(Rule):
    """The image of Triton's server is replaced by Tritium's.

    The command, ports, probes, mounts and environment around it stay: Tritium's image has `tritonserver` on its path
    and under `/opt/tritonserver/bin`. Build the image from Tritium's Dockerfile (with `EXTRAS=onnx,vllm` for language
    models) and push it under the name that the plan is given. A tag that is filled in at deployment time stays
    where it is; only the repository before it is replaced. Images in notebooks and prose are only reported.

    Before docker-compose.yaml:

        services:
          triton:
            image: nvcr.io/nvidia/tritonserver:23.03-py3   # the old server
            command: ["tritonserver", "--model-repository=/models"]

    After docker-compose.yaml:

        services:
          triton:
            image: tritium:latest   # the old server
            command: ["tritonserver", "--model-repository=/models"]
    """

    id = "L01"
    severity = Severity.CHANGE

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every image of the server."""
        for launch, image in deployment.images():
            if image.role is Role.SERVER:
                if _ANALYZED in launch.source.line(launch.source.place(image.span.start)[0]):
                    advice = "model-analyzer goes on with Triton's own image"
                    message = f"image {image.text} is model-analyzer's"
                    yield self.at(launch.source, image.span, message, advice, severity=Severity.INFO)
                    continue
                yield self.at(
                    launch.source,
                    image.span,
                    f"image {image.shown}",
                    "build Tritium's Dockerfile and name that image here; command, ports, probes and mounts stay",
                    severity=Severity.INFO if launch.format in _READ_ONLY else None,
                    fix=None if launch.format in _READ_ONLY else _fix(launch, image, deployment.target),
                )


def _fix(launch: Launch, image: Image, target: Target) -> Fix:
    new = target.vllm_image if image.flavour in ("vllm", "trtllm") else target.image
    if "#" in image.text and "/" in new:  # Enroot's form: REGISTRY#REPOSITORY:TAG
        new = new.replace("/", "#", 1)
    repository, _, tag = new.rpartition(":")
    elsewhere = image.is_open or not (image.version or "@" in image.text)
    if image.tag_span is not None:
        edits = [Edit(launch.source.path, image.span, repository), Edit(launch.source.path, image.tag_span, tag)]
    elif elsewhere:
        # The tag is somebody's variable: its value moves with the repository, so a person looks at it.
        kept = image.text[len(image.repository) :]
        edits = [Edit(launch.source.path, image.span, repository + kept)]
    else:
        edits = [Edit(launch.source.path, image.span, new)]
    return Fix(tuple(edits), safe=not elsewhere)


class CustomImage(Rule):
    """An image of somebody's own starts Triton: what it is made from decides.

    The image's name does not say what is in it. Where its Dockerfile is part of the deployment, the image in that
    Dockerfile's `FROM` is what changes, and this one is rebuilt; otherwise somebody has to say what it was made from,
    and whether models and python packages are inside it.

    Before docker-compose.yaml:

        services:
          tts:
            image: acme/triton-speech:25.06
            command: tritonserver --model-repository=/models

    Finds: acme/triton-speech:25.06
    """

    id = "L09"
    severity = Severity.QUESTION

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find images of others, those that are filled in from elsewhere aside."""
        built = any(
            launch.format is Format.DOCKERFILE and any(image.role is Role.SERVER for image in launch.images)
            for launch in deployment.launches
        )
        for launch, image in deployment.images():
            if image.role is not Role.CUSTOM or "{{" in image.text or launch.format in _READ_ONLY:
                continue
            if image.text in (deployment.target.image, deployment.target.vllm_image) or _is_ours(image):
                continue
            yield self.at(
                launch.source,
                image.span,
                f"image {image.text} is not Triton's own",
                "build it again from the Dockerfile here, once that names Tritium's image"
                if built
                else "say what it was made from (FROM), and whether models or python packages are in it",
                severity=Severity.INFO if built else None,
            )


def _is_ours(image: Image) -> bool:
    return image.repository.rpartition("/")[2] == "tritium"


class ClientImage(Rule):
    """An image of Triton's client stays.

    `-sdk` images hold `perf_analyzer`, `genai-perf` and the client libraries. They speak the same protocol to Tritium.

    Before job.yaml:

        kind: Job
        spec:
          template:
            spec:
              containers:
              - name: perf
                image: nvcr.io/nvidia/tritonserver:24.01-py3-sdk

    Finds: client image
    """

    id = "L10"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every image of the client."""
        for launch, image in deployment.images():
            if image.role is Role.CLIENT:
                message = f"client image {image.text}"
                yield self.at(launch.source, image.span, message, "a client image: it stays")
