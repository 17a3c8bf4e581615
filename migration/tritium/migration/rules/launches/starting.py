"""Rules of how the server is started: packages, ports, probes, environment, control of models, runners."""

import re
from collections.abc import Iterator

from tritium.migration.deployment import Deployment
from tritium.migration.finding import Finding, Severity
from tritium.migration.launches.dockerfile import instructions
from tritium.migration.launches.format import Format
from tritium.migration.launches.image import Role
from tritium.migration.rules.rule import Rule, replacement
from tritium.migration.text.source import Span
from tritium.migration.text.tree import Scalar

_PROSE = {Format.DOCUMENT}


class BuildSteps(Rule):
    """Packages are installed into the server's image.

    `pip install` lines stay: `pip` is that of Tritium's environment, so python models see what it installs. Tritium's
    image does not run as root: put `USER root` before such lines, and `USER tritium` after them. System packages
    (`apt-get`) are Debian's. What is copied into `/opt/tritonserver/backends` is looked at by rule M18.

    Before Dockerfile:

        FROM nvcr.io/nvidia/tritonserver:24.08-py3
        RUN pip install transformers
        CMD ["tritonserver", "--model-repository=/models"]

    Finds: runs as root
    """

    id = "L04"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find Dockerfiles on Triton's image that install something, at their first such line."""
        for launch in deployment.launches:
            server = any(image.role is Role.SERVER for image in launch.images)
            if launch.format is not Format.DOCKERFILE or not server:
                continue
            user = ""
            for one in instructions(launch.source.text):
                if one.name == "USER":
                    user = one.rest.strip()
                elif (
                    one.name == "RUN"
                    and re.search(r"\b(pip3?|apt-get|apt|conda|ldconfig|mkdir|chmod)\b", one.rest)
                    and not user
                ):
                    advice = (
                        "put USER root before it and USER tritium after it; pip installs into Tritium's environment"
                    )
                    span = Span(one.span.start, one.span.start + len(one.rest.splitlines()[0]))
                    yield self.at(
                        launch.source, span, "runs as root in Triton's image, which Tritium's does not", advice
                    )
                    break


class Ports(Rule):
    """Port 9000 is used, where Tritium offers the OpenAI API beside Triton's three ports.

    Ports 8000, 8001 and 8002 and their flags stay. Where 9000 is Triton's gRPC port (as in KServe), the OpenAI API goes
    elsewhere, or is left out with `TRITIUM_OPENAI=0`.

    Before start.sh:

        tritonserver --model-repository=/models --http-port=8080 --grpc-port=9000

    Finds: port 9000
    """

    id = "L06"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find ports that meet Tritium's own."""
        for launch, command in deployment.commands():
            for port in command.values("http-port", "grpc-port", "metrics-port"):
                if port.text == "9000":
                    advice = "the OpenAI API takes 9000 only where it is free; TRITIUM_OPENAI=0 leaves it out"
                    yield self.at(launch.source, port.span(launch.source), "port 9000 is one of the server's", advice)


class Probes(Rule):
    """A probe asks for a path of Triton's first API.

    `/v2/health/live` and `/v2/health/ready` stay as they are. `/api/health/...` left Triton with version 2; the probe
    has failed ever since. Where a language model is served, give its container a startup probe: loading takes minutes.

    Before deployment.yaml:

        kind: Deployment
        spec:
          template:
            spec:
              containers:
              - name: triton
                image: nvcr.io/nvidia/tritonserver:23.01-py3
                livenessProbe:
                  httpGet: { path: /api/health/live, port: 8000 }

    After deployment.yaml:

        kind: Deployment
        spec:
          template:
            spec:
              containers:
              - name: triton
                image: nvcr.io/nvidia/tritonserver:23.01-py3
                livenessProbe:
                  httpGet: { path: /v2/health/live, port: 8000 }
    """

    id = "L07"
    severity = Severity.CHANGE

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find health paths of the first API."""
        for launch in deployment.launches:
            for match in re.finditer(r"/api/health/(live|ready)\b", launch.source.text):
                span = Span(*match.span())
                fix = None if launch.format in _PROSE else replacement(launch.source, span, f"/v2/health/{match[1]}")
                message = f"{match.group()} is not answered since Triton 2"
                yield self.at(launch.source, span, message, f"ask for /v2/health/{match[1]}", fix=fix, already=True)


class Environment(Rule):
    """A variable of the environment that meant something to Triton or MPI alone.

    `CUDA_VISIBLE_DEVICES`, `HF_*`, and credentials of clouds mean the same here. `LD_PRELOAD` loads a library into a
    server it was not built for. MPI's and TensorRT-LLM's orchestration variables go away with the ranks.

    Before docker-compose.yml:

        services:
          triton:
            image: nvcr.io/nvidia/tritonserver:23.01-py3
            environment:
              LD_PRELOAD: /plugins/libmyplugin.so

    Finds: LD_PRELOAD
    """

    id = "L08"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find variables in containers, Dockerfiles and scripts that start the server."""
        for launch in deployment.launches:
            if launch.format in _PROSE:
                continue
            for match in _VARIABLE.finditer(launch.source.text):
                span = Span(*match.span("name"))
                if match["name"] == "LD_PRELOAD":
                    if re.match(r"[^\n]*(tcmalloc|jemalloc)", launch.source.text[match.end() :]):
                        continue
                    message = "LD_PRELOAD puts a library into the server, which was built for Triton"
                    advice = "a TensorRT plugin goes with its engine; anything else moves into a python model"
                    yield self.at(launch.source, span, message, advice, severity=Severity.BLOCKER)
                else:
                    message = f"{match['name']} is for MPI and TensorRT-LLM's ranks, which there are none of here"
                    yield self.at(launch.source, span, message, "leave it out")


_VARIABLE = re.compile(
    r"(?<![\w$#])(?P<name>LD_PRELOAD|TRTLLM_ORCHESTRATOR|OMPI_MCA_\w+|OMPI_ALLOW_RUN_AS_ROOT\w*)(?=\s*[=:\"'])"
)


class ModelControl(Rule):
    """How models are loaded: explicit control without a model to load, or models to load without explicit control.

    With `--model-control-mode=explicit` and no `--load-model`, the server starts empty and somebody loads models by
    API. `--load-model` in any other mode stops tritonserver at start.

    Before start.sh:

        tritonserver --model-repository=/models --load-model=resnet

    Finds: --load-model without --model-control-mode=explicit
    """

    id = "L12"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find both."""
        for launch, command in deployment.commands():
            if command.launches_ranks or command.is_openai or launch.format in _PROSE:
                continue
            mode, models = command.value("model-control-mode").lower(), command.values("load-model")
            span = command.program.span(launch.source)
            if mode == "explicit" and not models:
                message = "explicit control without --load-model: the server starts without models"
                yield self.at(launch.source, span, message, "they are loaded by POST /v2/repository/models/NAME/load")
            elif (
                models
                and mode in ("", "none", "poll")
                and not any("$" in w.text or "{{" in w.text for w in command.words)
            ):
                message = "--load-model without --model-control-mode=explicit: tritonserver does not start"
                place = models[0].span(launch.source)
                yield self.at(launch.source, place, message, "add it", severity=Severity.BLOCKER, already=True)


class Runner(Rule):
    """The server runs in a container of Apptainer, Singularity, Shifter or Enroot.

    These pull images under names of their own: make the new image known first (`apptainer pull`, `shifterimg pull`,
    `enroot import`), then name it. Flags of the runner stay.

    Before job.sbatch:

        #!/bin/bash
        #SBATCH --gpus=1
        srun shifter --image=nvcr.io/nvidia/tritonserver:24.01-py3 tritonserver --model-repository=/models

    Finds: shifter
    """

    id = "L13"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find the runner in files that start the server, at its first place."""
        for launch in deployment.launches:
            if launch.format in (Format.SHELL, Format.SLURM, Format.MAKEFILE, Format.ANSIBLE) and (
                match := re.search(r"\b(apptainer|singularity|shifter|enroot|pyxis)\b(?=\s)", launch.source.text)
            ):
                advice = "pull the new image under its name first"
                yield self.at(
                    launch.source, Span(*match.span()), f"{match[1]} keeps images under names of its own", advice
                )


class Chart(Rule):
    """A Helm chart starts the server: the image is named in its values, the command in its templates.

    Both are edited where they stand; templates are never rendered and written back. Values given at installation
    (`--set`, other values files) may name the old image again.

    Before chart/templates/deployment.yaml:

        kind: Deployment
        spec:
          template:
            spec:
              containers:
              - name: triton
                image: "{{ .Values.image.imageName }}"
                args: ["tritonserver", "--model-store={{ .Values.image.modelRepositoryPath }}"]

    Finds: the image is named in the chart's values
    """

    id = "L14"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find containers of templates whose image comes from values."""
        for launch in deployment.launches:
            if launch.format is not Format.HELM:
                continue
            for image in launch.images:
                if image.role is Role.CUSTOM and "{{" in image.text:
                    advice = "edit the values file, and whatever --set gives at installation"
                    yield self.at(launch.source, image.span, "the image is named in the chart's values", advice)


class IdleContainer(Rule):
    """The container that should serve only sleeps; somebody starts the server in it by hand or by a script.

    Before docker-compose.yml:

        services:
          triton:
            image: nvcr.io/nvidia/tritonserver:23.01-py3
            command: sleep infinity

    Finds: starts no server
    """

    id = "L22"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find containers of the server's image that sleep."""
        for launch in deployment.launches:
            spans = [image.span for image in launch.images if image.role is Role.SERVER]
            for container in launch.containers:
                words = container.words
                if container.image is not None and container.image.span in spans and words and _sleeps(words):
                    message = f"container '{container.name}' starts no server: {' '.join(word.text for word in words)}"
                    yield self.at(
                        launch.source, words[0].span, message[:120], "say how it is started, and in which order"
                    )


def _sleeps(words: tuple[Scalar, ...]) -> bool:
    text = " ".join(word.text for word in words)
    return bool(re.search(r"\bsleep\s+(infinity|\d{3,})|tail\s+-f\s+/dev/null", text)) and "tritonserver" not in text


RULES = (BuildSteps, Ports, Probes, Environment, ModelControl, Runner, Chart, IdleContainer)
