"""Read a config.pbtxt: its protobuf message, the place of every field, and every problem of it at once.

bytes -> text -> tokens -> syntax (tree) -> bind (message, places)
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritium.compat.config.bind import Binder, Places
from tritium.compat.config.problem import Problem, problem_of
from tritium.compat.config.syntax import Reader
from tritium.compat.config.tokens import Source
from tritium.compat.protobufs import model_config_pb2

_PATH = re.compile(r"\.{1,2}/[^\s\"'{}<>\[\]]+")
"""What a whole file holds that git checked out as text where it should have made a symbolic link."""


@dataclass(slots=True)
class Parsed:
    """What was read. With problems, `message` holds the fields that are sound."""

    message: Any
    places: Places
    problems: list[Problem] = field(default_factory=list)


def parse_text(text: str, path: str) -> Parsed:
    """Read a configuration; `path` is what problems say it is called."""
    source = Source(path, text.removeprefix("\ufeff"))
    reader = Reader(source)
    entries = reader.read()
    binder = Binder(Places(source))
    message = model_config_pb2.ModelConfig()
    binder.fill(message, entries)
    problems = sorted(reader.problems + binder.problems, key=lambda p: (p.line, p.column))
    return Parsed(message, binder.places, problems)


def parse_file(file: Path, shown: str = "") -> Parsed:
    """Read a configuration file; a file that cannot be read is a problem too."""
    path = shown or str(file)
    try:
        raw = file.read_bytes()
    except OSError as error:
        return _unreadable(path, f"cannot be read: {error.strerror}")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _unreadable(path, "is UTF-16 text", "save it as UTF-8")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return _unreadable(path, f"is not UTF-8 text: byte 0x{raw[error.start]:02x} in line {line}", "save it as UTF-8")
    parsed = parse_text(text, path)
    if _PATH.fullmatch(where := text.strip()):
        message = f"the whole file is {where}: a symbolic link that became a file of text"
        parsed.problems = [Problem(path, 1, 1, len(where), message, "put the file there that it names", where)]
    return parsed


def _unreadable(path: str, message: str, hint: str = "") -> Parsed:
    parsed = parse_text("", path)
    parsed.problems.append(problem_of(path, message, hint))
    return parsed
