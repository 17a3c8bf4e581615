"""Recorded cases: what was sent to a real Triton 2.51 over HTTP, and what it answered.

    # infer-json: what it shows, where the name does not say it
    > POST /v2/models/add_sub/infer
    > Accept-Encoding: gzip
    >
    > {"inputs": [...]}
    < 200
    < Content-Type: application/json
    <
    < {"model_name": ...}

A body's lines are joined by line breaks, but a line `hex 00ff` adds exactly its bytes. A body whose head says
Content-Encoding stands here unpacked. Where Tritium differs on purpose, the recorded answer stands in lines that
begin with `~`, a comment says why, and `<` is what Tritium answers. Paths of files are written `<path>`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Part:
    """A request or an answer: its first line, its headers, its body."""

    line: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Case:
    name: str
    asked: Part
    answered: Part

    def __str__(self) -> str:
        return self.name


def read(file: Path) -> Iterator[Case]:
    """Read the cases of a file."""
    for block in re.split(r"(?m)^(?=# )", file.read_text())[1:]:
        lines = block.splitlines()
        name = lines[0][2:].partition(":")[0]
        asked, answered = (_part([line[2:] for line in lines if line.startswith(mark)]) for mark in "><")
        yield Case(f"{file.stem}/{name}", asked, answered)


def _part(lines: list[str]) -> Part:
    end = lines.index("") if "" in lines else len(lines)
    headers = dict(line.split(": ", 1) for line in lines[1:end])
    return Part(lines[0], headers, _body(lines[end + 1 :]))


def _body(lines: list[str]) -> bytes:
    parts: list[bytes] = []
    text_before = False
    for line in lines:
        is_hex = line.startswith("hex ")
        if is_hex:
            parts.append(bytes.fromhex(line[4:]))
        else:
            parts.append(b"\n" * text_before + line.encode())
        text_before = not is_hex
    return b"".join(parts)
