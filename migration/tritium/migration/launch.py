"""Files that start Triton: Dockerfiles, compose files, Kubernetes and other YAML, shell scripts.

They are read as text, line by line, for many of them are templates that no YAML parser takes; a command line that
goes over several lines (continuations, lists) is put together again.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tritium.compat.flags import BY_NAME, Fate
from tritium.migration.finding import Finding, LaunchReport, Severity

_IMAGE = re.compile(r"[\w.\-/:${}]*\b(?:tritonserver|tritonserver-sdk|tensorrtserver)[\w.\-]*(?::[\w.\-<>${}]+)?")
_SERVER = re.compile(r"(?<![\w/.:-])(?:/opt/tritonserver/bin/)?tritonserver(?![\w:.\-/])|launch_triton_server\.py")
_FLAG = re.compile(r"--([a-z][a-z0-9-]*)")
_SHELLS = {".sh", ".bash", ".sbatch", ".slurm"}
_YAML = {".yaml", ".yml", ".tpl", ".json", ".tf", ".toml"}


@dataclass(frozen=True, slots=True)
class Command:
    """A tritonserver command line: its first line's number, and each flag with the line it stands on."""

    line: int
    text: str
    flags: tuple[tuple[str, int, int], ...]
    """(name, line, column) of each flag."""


def kind_of(path: Path) -> str:
    """Tell what sort of launch file a path is by its name; "" when it cannot be one."""
    name = path.name.lower()
    if name.startswith("dockerfile") or name.endswith(".dockerfile"):
        return "Dockerfile"
    if name.startswith(("docker-compose", "compose")) and path.suffix in (".yaml", ".yml"):
        return "compose"
    if path.suffix in _SHELLS or name == "makefile":
        return "shell"
    return "manifest" if path.suffix in _YAML else ""


def read_launch(path: Path, root: Path) -> LaunchReport | None:
    """Read one file; None when nothing in it starts Triton."""
    kind = kind_of(path)
    if not kind:
        return None
    lines = path.read_text(errors="replace").splitlines()
    images = tuple(dict.fromkeys(_images(lines)))
    commands = tuple(_commands(lines))
    if not images and not commands:
        return None
    if kind == "manifest":
        kind = _manifest_kind(lines)
    place = path.relative_to(root)
    findings = [*_image_findings(lines, place), *(f for c in commands for f in _flag_findings(c, place))]
    return LaunchReport(place, kind, images, tuple(c.text for c in commands), tuple(findings))


def _manifest_kind(lines: list[str]) -> str:
    for line in lines:
        if line.startswith("kind:"):
            return "Kubernetes " + line.split(":", 1)[1].strip()
    if any("{{" in line for line in lines):
        return "Helm template"
    return "manifest"


def _code(line: str) -> str:
    """Drop a comment: a # at the start or after a blank begins one in every format read here."""
    return re.sub(r"(^|\s)#.*$", r"\1", line)


def _images(lines: list[str]) -> Iterator[str]:
    for line in lines:
        for match in _IMAGE.finditer(_code(line)):
            word = match.group()
            if ":" in word or "nvcr.io" in word:
                yield word


def _image_findings(lines: list[str], path: Path) -> Iterator[Finding]:
    for number, line in enumerate(lines, 1):
        for match in _IMAGE.finditer(_code(line)):
            word = match.group()
            if "-sdk" in word:
                advice = "a client image: it stays"
                yield Finding("L10", Severity.INFO, path, number, match.start() + 1, f"client image {word}", advice)
            elif ":" in word and "nvcr.io" in word:
                yield Finding(
                    "L01",
                    Severity.CHANGE,
                    path,
                    number,
                    match.start() + 1,
                    f"image {word}",
                    "build Tritium's Dockerfile and name that image here; ports, probes and mounts stay",
                )


def _commands(lines: list[str]) -> Iterator[Command]:
    number = 0
    while number < len(lines):
        match = _SERVER.search(_code(lines[number]))
        if match is None or re.match(r"\s*(FROM|image:|-?\s*name:)", lines[number]):
            number += 1
            continue
        first, flags, text = number, [], []
        while number < len(lines):
            code = _code(lines[number])
            begin = match.end() if number == first else 0
            flags += [(m[1], number + 1, m.start() + 1) for m in _FLAG.finditer(code, begin)]
            text.append(code[match.start() if number == first else 0 :])
            if not _goes_on(lines, number):
                break
            number += 1
        yield Command(first + 1, _plain(text), tuple(flags))
        number += 1


def _plain(lines: list[str]) -> str:
    """Write a command's lines as one, without the marks of the list, string or continuation they stood in."""
    words = re.sub(r"""["'\\\[\]|>,]""", " ", " ".join(lines)).split()
    return " ".join(word for word in words if word != "-")


def _goes_on(lines: list[str], number: int) -> bool:
    """Tell whether the command continues on the next line: a backslash, or another item of the same list."""
    if number + 1 >= len(lines):
        return False
    if lines[number].rstrip().endswith("\\"):
        return True
    following = _code(lines[number + 1]).strip()
    return bool(re.match(r"""^(-\s+|,)?\s*["']?--[a-z]""", following)) or following in ("args:", "args: [")


def _flag_findings(command: Command, path: Path) -> Iterator[Finding]:
    for name, line, column in command.flags:
        flag = BY_NAME.get(name)
        if flag is None:
            if "launch_triton_server" not in command.text:
                yield Finding("L02", Severity.INFO, path, line, column, f"--{name} is no flag of tritonserver")
        elif flag.fate is Fate.REFUSED:
            yield Finding(
                "L03", Severity.BLOCKER, path, line, column, f"--{name}: {flag.note} is not available in this version"
            )
        elif flag.fate is Fate.NOTED:
            yield Finding("L03", Severity.INFO, path, line, column, f"--{name} changes nothing here: {flag.note}")
    if "launch_triton_server" in command.text:
        yield Finding(
            "L05",
            Severity.CHANGE,
            path,
            command.line,
            1,
            "starts TensorRT-LLM ranks under MPI",
            "start tritonserver --model-repository=...; the GPUs of a model go into model.json (tensor_parallel_size)",
        )
