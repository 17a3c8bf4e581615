"""Files that start Triton: Dockerfiles, compose files, Kubernetes and other YAML, shell scripts.

They are read line by line; a command line that goes over several lines (continuations, lists) is put together again.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tritium.migration.finding import Finding, LaunchReport, Severity
from tritium.migration.flags import flag_findings
from tritium.migration.words import PLACEHOLDER, Word, code_of, split, whole_string

_IMAGE = re.compile(r"[\w.\-/:${}]*\b(?:tritonserver|tritonserver-sdk|tensorrtserver)[\w.\-]*(?::[\w.\-<>${}]+)?")
_SERVER = re.compile(r"(?<![\w/.:-])(?:/opt/tritonserver/bin/)?tritonserver(?![\w:.\-/])|launch_triton_server\.py")
_NO_COMMAND = re.compile(r"\s*(FROM|image:|-?\s*name:)")
_SHELLS = {".sh", ".bash", ".sbatch", ".slurm"}
_YAML = {".yaml", ".yml", ".tpl", ".json", ".tf", ".toml"}


@dataclass(frozen=True, slots=True)
class Command:
    """A tritonserver command line: where it begins, and the words after the server's name."""

    program: Word
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """Return the command on one line, without the marks of the list or string it stood in."""
        return " ".join(word.text for word in (self.program, *self.words))

    @property
    def launches_ranks(self) -> bool:
        """Tell whether this is TensorRT-LLM's launcher, which has flags of its own."""
        return "launch_triton_server" in self.program.text


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
    """Read one file; None when nothing in it starts Triton, or it cannot be read."""
    kind = kind_of(path)
    if not kind:
        return None
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    images = tuple(dict.fromkeys(_images(lines)))
    commands = tuple(_commands(lines))
    if not images and not commands:
        return None
    if kind == "manifest":
        kind = _manifest_kind(lines)
    place = path.relative_to(root)
    findings = [*_image_findings(lines, place), *(f for c in commands for f in _command_findings(c, place))]
    return LaunchReport(place, kind, images, tuple(c.text for c in commands), tuple(findings))


def _manifest_kind(lines: list[str]) -> str:
    for line in lines:
        if line.startswith("kind:"):
            return "Kubernetes " + line.split(":", 1)[1].strip()
    if any("{{" in line for line in lines):
        return "Helm template"
    return "manifest"


def _images(lines: list[str]) -> Iterator[str]:
    for line in lines:
        for match in _IMAGE.finditer(code_of(line)):
            word = match.group()
            if ":" in word or "nvcr.io" in word:
                yield word


def _image_findings(lines: list[str], path: Path) -> Iterator[Finding]:
    for number, line in enumerate(lines, 1):
        for match in _IMAGE.finditer(code_of(line)):
            word, column = match.group(), match.start() + 1
            if "-sdk" in word:
                advice = "a client image: it stays"
                yield Finding("L10", Severity.INFO, path, number, column, f"client image {word}", advice)
            elif ":" in word and "nvcr.io" in word:
                advice = "build Tritium's Dockerfile and name that image here; command, ports, probes and mounts stay"
                yield Finding("L01", Severity.CHANGE, path, number, column, f"image {word}", advice)


def _commands(lines: list[str]) -> Iterator[Command]:
    number = 0
    while number < len(lines):
        code = code_of(lines[number])
        match = _SERVER.search(code)
        if match is None or _NO_COMMAND.match(code):
            number += 1
            continue
        program = Word(match.group(), number + 1, match.start() + 1)
        if inside := whole_string(code, match.start()):
            words, _ = split(code[: match.start() + len(inside)], number + 1, match.end())
        else:
            rest = match.end() + (code[match.end() : match.end() + 1] in ("'", '"'))
            words, ended = split(code, number + 1, rest)
            while not ended and (following := _following(lines, number)):
                number = following
                more, ended = split(code_of(lines[number]), number + 1)
                words += more
        # Words without any flag are a sentence about the server, not a command.
        if not words or any(w.text.startswith("-") or PLACEHOLDER.search(w.text) for w in words):
            yield Command(program, tuple(words))
        number += 1


def _following(lines: list[str], number: int) -> int:
    """Return the line on which the command goes on, past comments and template conditions; 0 when it is at its end."""
    after = number + 1
    while after < len(lines) and lines[after].strip() and _is_passed_over(lines[after]):
        after += 1
    if after >= len(lines):
        return 0
    here, there = code_of(lines[number]).rstrip(), code_of(lines[after])
    item = re.compile(r"(\s*)-\s")
    first, second = item.match(here), item.match(there)
    goes_on = (
        here.endswith("\\")
        or re.match(r"""\s*(-\s+|,)?\s*["']?--[a-z]""", there) is not None
        or re.match(r"\s*args:\s*(\[|$)", there) is not None
        or (here.endswith(",") and re.match(r"""\s*["']""", there) is not None)
        or (first is not None and second is not None and first[1] == second[1])
    )
    return after if goes_on else 0


def _is_passed_over(line: str) -> bool:
    code = code_of(line).strip()
    return code in ("", "[") or re.fullmatch(r"\{\{-?\s*(if|else|end|range|with)\b.*\}\}", code) is not None


def _command_findings(command: Command, path: Path) -> Iterator[Finding]:
    if command.launches_ranks:
        yield Finding(
            "L05",
            Severity.CHANGE,
            path,
            command.program.line,
            command.program.column,
            "starts TensorRT-LLM ranks under MPI",
            "start tritonserver --model-repository=...; the GPUs of a model go into model.json (tensor_parallel_size)",
        )
    else:
        yield from flag_findings(command.words, path)
