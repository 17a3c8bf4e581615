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

A body's lines are joined by line breaks, but a line `hex 00ff` adds exactly its bytes, and `{0*70}` stands for seventy
zeros. A body whose head says Content-Encoding stands here unpacked, unless it begins with `packed `. A line `?` lets
the case be asked again until it is answered so. Where Tritium differs on purpose, the recorded answer stands in lines
that begin with `~`, a comment says why, docs/triton-differences.md lists the case, and `<` is what Tritium answers.
Paths of files are written `<path>`, our version `<version>`, times `N`.
"""

import gzip
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

PACK = {"gzip": gzip.compress, "deflate": zlib.compress}
UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}
AGAIN_FOR_S = 60
VERSION = version("tritium")
MANY = re.compile(rb"\{(.)\*(\d+)\}")
PACKED = b"packed "

_FILES = re.compile(rb"/[\w./-]+\.py\(\d+\)")
_TIMES = re.compile(rb'"(ns|last_inference)":\d+')
_HINT = re.compile(rb',"hint":"(?:[^"\\]|\\.)*"}$')


Answer = tuple[int, dict[str, str | None], bytes]


@dataclass
class Part:
    """A request or an answer: its first line, its headers, its body."""

    line: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Case:
    protocol: ClassVar = "http"
    name: str
    asked: Part
    answered: Part
    differs: bool
    again: bool
    server: str

    def __str__(self) -> str:
        return self.name

    @property
    def expected(self) -> Answer:
        """Status, the headers that say what a body is, and the body."""
        return int(self.answered.line), self.answered.headers, self.answered.body

    def ask(self, connection: HTTPConnection, key: bytes) -> Answer:
        """Ask, again and again where the case says so, and return what can be compared with `expected`."""
        found = _ask(self, connection, key)
        give_up = time.monotonic() + AGAIN_FOR_S
        while found != self.expected and self.again and time.monotonic() < give_up:
            found = _ask(self, connection, key)
        return found


def read(file: Path) -> Iterator[Case]:
    """Read the cases of a file."""
    for block in re.split(r"(?m)^(?=# )", file.read_text().replace("<version>", VERSION))[1:]:
        lines = block.splitlines()
        name = lines[0][2:].partition(":")[0]
        asked, answered = (_part([line[2:] for line in lines if line.startswith(mark)]) for mark in "><")
        marks = {line[:1] for line in lines}
        yield Case(f"{file.stem}/{name}", asked, answered, "~" in marks, "?" in marks, file.parent.name)


def _ask(case: Case, connection: HTTPConnection, key: bytes) -> Answer:
    asked = case.asked
    method, path = asked.line.split(" ")
    body = asked.body.replace(b"/golden_shm", key)
    if body.startswith(PACKED):
        body = body.removeprefix(PACKED)
    else:
        body = PACK.get(asked.headers.get("Content-Encoding", ""), bytes)(body)
    connection.request(method, path, body, asked.headers)
    answer = connection.getresponse()
    text = UNPACK.get(answer.headers.get("Content-Encoding", ""), bytes)(answer.read())
    headers: dict[str, str | None] = {name: answer.headers.get(name) for name in case.answered.headers}
    return answer.status, headers, _comparable(text).replace(key, b"/golden_shm")


def _comparable(body: bytes) -> bytes:
    """Hide what differs by machine (paths of model files, times) and what Triton lacks (hints, a line's end)."""
    body = _TIMES.sub(rb'"\1":N', _FILES.sub(b"<path>", body))
    return _HINT.sub(b"}", body).rstrip(b"\n")


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
            parts.append(b"\n" * text_before + MANY.sub(lambda many: many[1] * int(many[2]), line.encode()))
        text_before = not is_hex
    return b"".join(parts)
