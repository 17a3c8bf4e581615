"""The file of recorded calls: lines of JSON, the first of which names the format.

    {"tritium_record": 1}
    {"protocol": "http", "model": "add", "path": "/v2/models/add/infer", "headers": {...}, "request": ["{...}"],
     "response": ["..."], "status": "200", "took_s": 0.004, "refused": ""}

`protocol` is http, grpc or openai. `request` and `response` hold HTTP's body or gRPC's messages: text where it is
UTF-8, else {"base64": "..."}.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tritium.migration.comparing.call import Captured

VERSION = 1


class BadRecording(Exception):
    """A file that is no recording, or one of a later version."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call with what became of it, as it is written down."""

    call: Captured
    responses: tuple[bytes, ...]
    status: str
    took_s: float


class RecordingFile:
    """A recording that grows up to `most_bytes`; what does not fit any more is counted."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Begin a file, or go on with the recording that is there, behind its last whole line.

        Raises:
            BadRecording: what is there is no recording; it stays.
        """
        self.written = self.left_out = end = 0
        if path.is_file() and path.stat().st_size:
            self.written = len(read(path).calls)
            end = path.read_bytes().rfind(b"\n") + 1
        self._file: IO[bytes] = path.open("r+b" if end else "wb")
        self._left = most_bytes - end
        if end:
            self._file.truncate(self._file.seek(end))
        else:
            self._write({"tritium_record": VERSION})

    def append(self, recorded: Recorded) -> bool:
        """Write one call down; tell whether it still fitted."""
        call = recorded.call
        fits = self._write({
            "protocol": call.protocol,
            "model": call.model,
            "path": call.path,
            "headers": dict(call.headers),
            "request": [_text(message) for message in call.messages],
            "response": [_text(message) for message in recorded.responses],
            "status": recorded.status,
            "took_s": round(recorded.took_s, 6),
            "refused": call.refused,
        })  # fmt: skip
        if fits:
            self.written += 1
        else:
            self.left_out += 1
        return fits

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _write(self, document: dict[str, Any]) -> bool:
        line = json.dumps(document, ensure_ascii=False).encode() + b"\n"
        if len(line) > self._left:
            return False
        self._left -= len(line)
        self._file.write(line)
        self._file.flush()
        return True


@dataclass(frozen=True, slots=True)
class Recording:
    """The calls of a file, in the order in which they ended; `cut_off`: its last line is not whole, and not there."""

    calls: tuple[Captured, ...]
    cut_off: bool = False


def read(path: Path) -> Recording:
    """Read a recording; one whose writer was killed lacks at most the end of its last line.

    Raises:
        BadRecording: it cannot be read, or a line is none of ours.
    """
    try:
        first, *lines = path.read_bytes().split(b"\n")
        head = json.loads(first or b"null")
    except OSError as error:
        raise BadRecording(f"{path}: {error.strerror}") from error
    except ValueError:
        head = None
    if not isinstance(head, dict) or "tritium_record" not in head:
        raise BadRecording(f"{path} was not written by dynamo-migrate record")
    if head["tritium_record"] != VERSION:
        raise BadRecording(f"{path} is of version {head['tritium_record']}; this reads version {VERSION}")
    # Every whole line ends, so what follows the last end is nothing, or a line that was being written.
    *whole, rest = lines or [b""]
    calls = []
    for number, line in enumerate(whole, 1):
        try:
            calls.append(_call(json.loads(line), number))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadRecording(f"{path}, line {number + 1}: {error or type(error).__name__} is no call") from error
    return Recording(tuple(calls), cut_off=bool(rest))


def _call(line: dict[str, Any], number: int) -> Captured:
    return Captured(
        protocol=line["protocol"],
        model=line["model"],
        about=f"call {number}, {line['path']}",
        path=line["path"],
        headers=tuple(line["headers"].items()),
        messages=tuple(_bytes(message) for message in line["request"]),
        refused=line["refused"],
    )


def _text(message: bytes) -> str | dict[str, str]:
    try:
        return message.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(message).decode()}


def _bytes(message: str | dict[str, str]) -> bytes:
    return message.encode() if isinstance(message, str) else base64.b64decode(message["base64"])
