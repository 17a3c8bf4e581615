"""The rule of TensorRT-LLM's launcher, and of MPI around the server."""

import re
from collections.abc import Iterator

from tritium.migration.deployment import Deployment, Launch
from tritium.migration.finding import Finding, Severity
from tritium.migration.launches.code import code_of_file
from tritium.migration.launches.command import Command
from tritium.migration.launches.format import Format
from tritium.migration.rules.rule import Rule
from tritium.migration.text.edit import Edit, Fix
from tritium.migration.text.removal import without
from tritium.migration.text.source import Span
from tritium.migration.text.words import Word

_KEPT = {
    "model-repo": "model-repository",
    "http-port": "http-port",
    "grpc-port": "grpc-port",
    "metrics-port": "metrics-port",
}
"""Flags of the launcher that are the server's, by its own spelling and by the server's."""

_ALONE = {"force", "log", "multi-model", "disable-spawn-processes", "no-mpi", "oversubscribe"}
"""Flags of the launcher that take no value."""

_MPI = re.compile(r"\bmpi(?:run|exec)\b[\s\"',](?:(?!tritonserver|;|\n[ \t]*\n).){0,600}$", re.DOTALL)
"""MPI's launcher before the server's name, in the same command."""

_PYTHON = re.compile(r"(python3?(?:[\"']\s*,\s*[\"']|\s+(?:-\S+\s+)*))$")


class Ranks(Rule):
    """TensorRT-LLM's launcher starts one tritonserver a rank under MPI: one server takes its place.

    `launch_triton_server.py --world_size N` runs `mpirun -n N tritonserver ...`. Here one `tritonserver` serves the
    repository, and the workers of the language model get the GPUs: N becomes `tensor_parallel_size` (times
    `pipeline_parallel_size`) in the model's `model.json`. MPI, ranks and shared-memory prefixes go away. The launcher
    goes on in the background and the server does not, so a script that does more after it needs an `&`.

    Where a script or program runs `mpirun ... tritonserver` itself, over one machine or several, that is for a
    person: MPI is not in Tritium's image, and what stands around the ranks (host lists, loops of workers) is not known.

    Before start.sh:

        python3 /tensorrtllm_backend/scripts/launch_triton_server.py --world_size=4 --model_repo=/models

    Finds: starts 4 ranks of TensorRT-LLM under MPI

    After start.sh:

        tritonserver --model-repository=/models
    """

    id = "L05"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every start of ranks."""
        for launch, command in deployment.commands():
            if command.launches_ranks:
                size = command.value("world-size")
                ranks = f"{size} rank{'s' * (size != '1')}" if size.isdigit() else "ranks"
                advice = "start tritonserver --model-repository=...; the GPUs of a model go into model.json"
                if size.isdigit() and size != "1":
                    advice += f" (tensor_parallel_size {size})"
                span = command.program.span(launch.source)
                fix = None if launch.format is Format.NOTEBOOK else _fix(launch, command)
                yield self.at(launch.source, span, f"starts {ranks} of TensorRT-LLM under MPI", advice, fix=fix)
            elif _is_under_mpi(launch, command):
                advice = "start one tritonserver without MPI; the GPUs of a model go into model.json"
                span = command.program.span(launch.source)
                yield self.at(launch.source, span, "starts tritonserver under MPI, which is not in the image", advice)


def _is_under_mpi(launch: Launch, command: Command) -> bool:
    if "mpi" not in launch.source.text or command.is_openai:
        return False
    code = code_of_file(launch.format, launch.source)
    return bool(_MPI.search(code, max(0, (at := command.program.span(launch.source).start) - 700), at))


def _fix(launch: Launch, command: Command) -> Fix | None:
    """Make the launcher's command the server's; None for one with words that are no flags known here."""
    source, program = launch.source, command.program.span(launch.source)
    python = _PYTHON.search(source.text[max(0, program.start - 40) : program.start])
    start = program.start - len(python[1]) if python else program.start
    edits = [Edit(source.path, Span(start, program.end), "tritonserver")]
    words = list(command.words)
    gone: list[Span] = []
    beside = False  # Words that go and stand beside each other go as one: they share the comma between them.
    while words:
        word = words.pop(0)
        name, equals, _ = word.text.partition("=")
        name = name.removeprefix("--").replace("_", "-")
        span = word.span(source)
        if name in _KEPT:
            edits.append(Edit(source.path, Span(span.start, span.start + len(name) + 2), f"--{_KEPT[name]}"))
        elif not word.text.startswith("--"):
            return None
        if not equals and name not in _ALONE and words and not words[0].text.startswith("--"):
            value: Word = words.pop(0)
            span = Span(span.start, value.span(source).end)
        if name not in _KEPT:
            if beside:
                span = Span(gone.pop().start, span.end)
            gone.append(span)
        beside = name not in _KEPT
    return Fix((*edits, *(without(source, span) for span in gone)), safe=False)
