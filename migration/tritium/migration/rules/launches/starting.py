"""Rules of how the server is started: packages, ports, control of models, runners, charts."""

import re
from collections.abc import Iterator

from tritium.migration.deployment import Deployment, Launch
from tritium.migration.finding import Finding, Severity
from tritium.migration.launches.dockerfile import Instruction, instructions
from tritium.migration.launches.format import Format
from tritium.migration.launches.image import Role
from tritium.migration.rules.rule import Rule
from tritium.migration.text.edit import Edit, Fix
from tritium.migration.text.source import Span
from tritium.migration.text.tree import Scalar

_PROSE = {Format.DOCUMENT}


class BuildSteps(Rule):
    """Packages are installed into the server's image.

    `pip install` lines stay: `pip` is that of Tritium's environment, so python models see what it installs. Tritium's
    image does not run as root: `USER root` goes before the first such line, and `USER tritium` after the last. Where
    the Dockerfile names users itself, or its image's tag is filled in, that is left to a person. System packages
    (`apt-get`) are Debian's. What is copied into `/opt/tritonserver/backends` is looked at by rule M18.

    Before Dockerfile:

        FROM nvcr.io/nvidia/tritonserver:24.08-py3
        RUN pip install transformers
        CMD ["tritonserver", "--model-repository=/models"]

    Finds: runs as root

    After Dockerfile:

        FROM nvcr.io/nvidia/tritonserver:24.08-py3
        USER root
        RUN pip install transformers
        USER tritium
        CMD ["tritonserver", "--model-repository=/models"]
    """

    id = "L04"
    severity = Severity.CHANGE

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find Dockerfiles on Triton's image that install something, at their first such line."""
        for launch in deployment.launches:
            server = any(image.role is Role.SERVER for image in launch.images)
            if launch.format is not Format.DOCKERFILE or not server:
                continue
            steps = list(instructions(launch.source.text))
            user = next((at for at, one in enumerate(steps) if one.name == "USER"), len(steps))
            first = next((one for one in steps[:user] if _as_root(one)), None)
            if first is None:
                continue
            fix = _users(launch, steps)
            span = Span(first.span.start, first.span.start + len(first.rest.splitlines()[0]))
            message = "runs as root in Triton's image, which Tritium's does not"
            advice = "put USER root before it and USER tritium after it; pip installs into Tritium's environment"
            severity = Severity.CHANGE if fix is not None else Severity.TODO
            yield self.at(launch.source, span, message, advice, severity=severity, fix=fix)


_ROOT = re.compile(r"\b(pip3?|apt-get|apt|conda|ldconfig|mkdir|chmod)\b")


def _as_root(one: Instruction) -> bool:
    return one.name == "RUN" and _ROOT.search(one.rest) is not None


def _users(launch: Launch, steps: list[Instruction]) -> Fix | None:
    """Put users around what runs as root in the last stage; None where that is not plainly right."""
    source = launch.source
    begin = max((at for at, one in enumerate(steps) if one.name == "FROM"), default=0)
    stage = steps[begin].span
    ours = any(i.role is Role.SERVER and stage.start <= i.span.start < stage.end for i in launch.images)
    own = [one for one in steps[begin:] if _as_root(one)]
    named = any(one.name == "USER" for one in steps[begin:]) or any(image.is_open for image in launch.images)
    # A heredoc, or a comment between continued lines, hides where an instruction ends.
    hidden = any(re.search(r"<<|^\s*#", one.rest, re.MULTILINE) for one in own)
    if not own or not ours or named or hidden:
        return None
    text, newline = source.text, "\r\n" if "\r\n" in source.text else "\n"
    start = text.rfind("\n", 0, own[0].span.start) + 1
    end = text.find("\n", own[-1].span.end - 1) + 1
    after = f"USER tritium{newline}" if end else f"{newline}USER tritium"
    end = end or len(text)
    before = Edit(source.path, Span(start, start), f"USER root{newline}")
    return Fix((before, Edit(source.path, Span(end, end), after)))


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


RULES = (BuildSteps, Ports, ModelControl, Runner, Chart, IdleContainer)
