"""Rules of what stands around the server in its container: the environment's variables."""

import re
from collections.abc import Iterator

from tritium.migration.deployment import Deployment, Launch
from tritium.migration.finding import Finding, Severity
from tritium.migration.launches.format import Format
from tritium.migration.rules.rule import Rule
from tritium.migration.text.edit import Edit, Fix
from tritium.migration.text.source import Source, Span
from tritium.migration.text.tree import Mapping, Scalar, Sequence

_PROSE = {Format.DOCUMENT}
_SCRIPTS = {Format.SHELL, Format.SLURM, Format.DOCKERFILE}


class Environment(Rule):
    """A variable of the environment that meant something to Triton or MPI alone.

    `CUDA_VISIBLE_DEVICES`, `HF_*`, and credentials of clouds mean the same here. `LD_PRELOAD` loads a library into a
    server it was not built for. MPI's and TensorRT-LLM's orchestration variables go away with the ranks: their lines
    are taken out where they stand alone, in scripts, Dockerfiles, compose files and manifests.

    Before docker-compose.yml:

        services:
          triton:
            image: nvcr.io/nvidia/tritonserver:23.01-py3
            environment:
              LD_PRELOAD: /plugins/libmyplugin.so
              OMPI_ALLOW_RUN_AS_ROOT: "1"

    Finds: LD_PRELOAD

    After docker-compose.yml:

        services:
          triton:
            image: nvcr.io/nvidia/tritonserver:23.01-py3
            environment:
              LD_PRELOAD: /plugins/libmyplugin.so
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
                    fix = _removal(launch, span)
                    message = f"{match['name']} is for MPI and TensorRT-LLM's ranks, which there are none of here"
                    severity = Severity.INFO if fix is None else Severity.CHANGE
                    yield self.at(launch.source, span, message, "leave it out", severity=severity, fix=fix)


_VARIABLE = re.compile(
    r"""(?<![\w$#])(?P<name>LD_PRELOAD|TRTLLM_ORCHESTRATOR|OMPI_MCA_\w+|OMPI_ALLOW_RUN_AS_ROOT\w*)"""
    r"""(?=\s*[=:"']|\s+\S+[ \t]*$|[ \t]*\r?\n[ \t]+value:)""",
    re.MULTILINE,
)
_ALONE = re.compile(r"[ \t]*(?:export[ \t]+|ENV[ \t]+)?\w+[= ][\w.\"'-]*[ \t]*\r?$")
"""A line of shell or a Dockerfile that sets one variable to a plain value."""


def _removal(launch: Launch, name: Span) -> Fix | None:
    """Take a variable's lines out; None where something else stands on them, or they are all of a list."""
    if launch.format in _SCRIPTS:
        line = _lines(launch.source, name)
        alone = _ALONE.match(line.of(launch.source.text).rstrip("\n"))
        before = launch.source.text[: line.start].rstrip(" \t\r\n")
        return Fix((Edit(launch.source.path, line, ""),)) if alone and not before.endswith("\\") else None
    for container in launch.containers:
        for key in ("env", "environment"):
            entry = _entry(container.node.get(key), name)
            if entry is not None:
                return _taken(launch.source, entry)
    return None


def _entry(node: object, name: Span) -> Span | None:
    """Return what a variable takes up of its list or mapping; None where it is not in it, or alone in it."""
    if isinstance(node, Mapping) and len(node.entries) > 1:
        found = next(((key, value) for key, value in node.entries if key.span == name), None)
        return None if found is None else Span(found[0].span.start, found[1].span.end)
    if isinstance(node, Sequence) and len(node.items) > 1:
        return next((item.span for item in node.items if _names(item, name)), None)
    return None


def _names(item: object, name: Span) -> bool:
    if isinstance(item, Scalar):
        return item.span.start == name.start
    called = item.get("name") if isinstance(item, Mapping) else None
    return isinstance(called, Scalar) and called.span == name


def _taken(source: Source, entry: Span) -> Fix | None:
    """Take out the lines of an entry; None where they hold something else."""
    text = source.text
    end = entry.start + len(text[entry.start : entry.end].rstrip())
    lines = Span(text.rfind("\n", 0, entry.start) + 1, text.find("\n", end) + 1 or len(text))
    before, after = text[lines.start : entry.start], text[end : lines.end]
    if before.strip(" \t\"'") not in ("", "-") or not re.fullmatch(r"[\"']?\s*(#.*)?\s*", after):
        return None
    return Fix((Edit(source.path, lines, ""),))


def _lines(source: Source, span: Span) -> Span:
    text = source.text
    return Span(text.rfind("\n", 0, span.start) + 1, text.find("\n", span.end) + 1 or len(text))


RULES = (Environment,)
