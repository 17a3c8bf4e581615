"""A deployment as it was read: its models, the files that start Triton, and what watches, scales and calls it.

Everything keeps the span of the file's text it was read from, so rules can say where, and fixes can edit there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tritium.migration.finding import Finding, Group, Severity
from tritium.migration.found import Found
from tritium.migration.launches.command import Command
from tritium.migration.launches.container import Container
from tritium.migration.launches.format import Format
from tritium.migration.launches.image import Image
from tritium.migration.text.edit import Fix
from tritium.migration.text.source import Source, Span


@dataclass(frozen=True, slots=True)
class Launch:
    """One file that starts Triton, or says from which image."""

    source: Source
    format: Format
    images: tuple[Image, ...] = ()
    commands: tuple[Command, ...] = ()
    containers: tuple[Container, ...] = ()
    kind: str = ""
    """What the format is called for people: "Kubernetes Deployment", "compose"."""


class Platform(StrEnum):
    """A service that starts Triton itself, from a description of its own."""

    KSERVE = "KServe"
    SELDON = "Seldon"
    SAGEMAKER = "SageMaker"
    VERTEX = "Vertex AI"
    AZUREML = "Azure ML"
    PYTRITON = "PyTriton"
    IN_PROCESS = "in-process API"


@dataclass(frozen=True, slots=True)
class Hosted:
    """One thing that a platform runs Triton for: an InferenceService, a ServingRuntime, an endpoint."""

    platform: Platform
    what: str
    source: Source
    span: Span


class Watch(StrEnum):
    """What an expression over metrics is for."""

    DASHBOARD = "dashboard"
    ALERT = "alert"
    AUTOSCALER = "autoscaler"
    RECORDING = "recording rule"


@dataclass(frozen=True, slots=True)
class Query:
    """An expression over Triton's metrics."""

    watch: Watch
    text: str
    source: Source
    span: Span
    title: str = ""


class Use(StrEnum):
    """One way in which a client uses the server."""

    HTTP = "tritonclient.http"
    GRPC = "tritonclient.grpc"
    KSERVE = "KServe v2 over HTTP"
    GENERATE = "generate"
    STREAM = "stream"
    SHARED_MEMORY = "shared memory"
    CUDA_MEMORY = "CUDA shared memory"
    REPOSITORY = "repository control"
    OLD_API = "API v1"
    TOKENS = "token ids to the engine"
    PERFORMANCE = "performance tool"
    GATEWAY = "OpenAI gateway"


OF_TRITON = frozenset({Use.HTTP, Use.GRPC, Use.STREAM, Use.SHARED_MEMORY, Use.CUDA_MEMORY, Use.OLD_API})
"""Uses that only clients of Triton's make; the others are those of any server of KServe v2."""


@dataclass(frozen=True, slots=True)
class Call:
    """One place in a client's code where it uses the server."""

    use: Use
    source: Source
    span: Span


@dataclass(frozen=True, slots=True)
class Target:
    """What takes the place of Triton: the images to name."""

    image: str = "tritium:latest"
    vllm_image: str = "tritium:vllm"


@dataclass(slots=True)
class Deployment:
    """Everything below one folder, as it was read."""

    root: Path
    models: list[Found] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)
    hosted: list[Hosted] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    sources: Mapping[Path, Source] = field(default_factory=dict)
    """Every file that was read as text, by its path below the root."""
    skipped: list[Path] = field(default_factory=list)
    target: Target = field(default_factory=Target)

    def files_of(self, model: Found, suffix: str = ".py") -> Iterator[Source]:
        """Yield the text files in a model's folder whose names end so."""
        home = model.place if model.bare else model.place.parent
        depth = len(home.parts)
        return (
            s for path, s in self.sources.items() if path.parts[:depth] == home.parts and path.name.endswith(suffix)
        )

    def commands(self) -> Iterator[tuple[Launch, Command]]:
        """Yield every command line of the server."""
        return ((launch, command) for launch in self.launches for command in launch.commands)

    def images(self) -> Iterator[tuple[Launch, Image]]:
        """Yield every image of Triton's server or client, and of others' that run it."""
        return ((launch, image) for launch in self.launches for image in launch.images)


def at(
    rule: str,
    severity: Severity,
    source: Source,
    span: Span,
    message: str,
    advice: str = "",
    *,
    fix: Fix | None = None,
    already: bool = False,
    about: Path | None = None,
) -> Finding:
    """Make a finding of a place in a file."""
    line, column = source.place(span.start)
    return Finding(rule, severity, source.path, line, column, message, advice, about, already, fix)
