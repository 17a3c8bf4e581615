"""How a log event becomes a line: for people, as JSON, or as Triton writes it.

    console   2026-11-22T10:29:20.618580Z info    model_ready model=resnet seconds=0.8
    json      {"event":"model_ready","model":"resnet","seconds":0.8,"level":"info",...}
    default   I1122 10:29:20.618580 21261 screen.py:174] "model_ready model=resnet seconds=0.8"
    ISO8601   2026-11-22T10:29:20Z I 21261 screen.py:174] "model_ready model=resnet seconds=0.8"

Source of the last two: common/src/logging.cc of Triton, 2.73. Times are UTC.
"""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

LIBRARY_LOG: Final = "library_log"
MODEL_LOG: Final = "model_log"
"""Events of what libraries and models log; the text is the field `message`."""

TABLE: Final = "_table"
FILE: Final = "_file"
LINE: Final = "_line"
"""Fields that are no part of what is told: a table to follow the line, and where in which file it was logged."""

Event = dict[str, Any]
Render = Callable[[Event], str]

_LETTERS: Final[Mapping[str, str]] = {"error": "E", "critical": "E", "warning": "W"}


def as_json(event: Event) -> str:
    """Write one object."""
    _pop_private(event)
    event["timestamp"] = _now().isoformat().replace("+00:00", "Z")
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def as_console(event: Event) -> str:
    """Write `time level event key=value ...`; a traceback follows on lines of its own."""
    table, *_ = _pop_private(event)
    level, traceback = event.pop("level"), event.pop("exception", "")
    stamp = _now().isoformat().replace("+00:00", "Z")
    lines = [f"{stamp} {level:7} {event.pop('event')}{_fields(event)}", traceback, table]
    return "\n".join(line for line in lines if line)


def as_triton(event: Event) -> str:
    """Write a line of Triton's default form."""
    letter = _LETTERS.get(event["level"], "I")
    return f"{letter}{_now():%m%d %H:%M:%S.%f} {_triton_tail(event)}"


def as_triton_iso8601(event: Event) -> str:
    """Write a line of Triton's ISO8601 form."""
    letter = _LETTERS.get(event["level"], "I")
    return f"{_now():%Y-%m-%dT%H:%M:%SZ} {letter} {_triton_tail(event)}"


FORMS: Final[Mapping[str, Render]] = {
    "console": as_console,
    "json": as_json,
    "default": as_triton,
    "ISO8601": as_triton_iso8601,
}
"""By the names of the setting log_format."""


def _triton_tail(event: Event) -> str:
    table, file, line = _pop_private(event)
    where = f"{os.getpid()} {file}:{line}] "
    if table:
        return f"{where}\n{table}\n"
    return where + _escaped(_message(event))


def _message(event: Event) -> str:
    """Return the event and its fields as one text; the logger's name and level are told by other means."""
    del event["level"]
    event.pop("logger", None)
    name, traceback = event.pop("event"), event.pop("exception", "")
    text = event["message"] if name in (LIBRARY_LOG, MODEL_LOG) else name + _fields(event)
    return f"{text}\n{traceback}" if traceback else text


def _escaped(message: str) -> str:
    # Read at every line, as tests of Triton start servers with either value; a dictionary look-up costs nothing here.
    if os.environ.get("TRITON_SERVER_ESCAPE_LOG_MESSAGES") == "0":
        return message
    return orjson.dumps(message.encode("utf-8", "replace").decode()).decode()


def _fields(event: Event) -> str:
    return "".join(f" {key}={_quoted(value)}" for key, value in event.items())


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not set(text) & set(' ="')
    return text if plain else orjson.dumps(text).decode()


def _pop_private(event: Event) -> tuple[str, str, int]:
    return event.pop(TABLE, ""), event.pop(FILE, ""), event.pop(LINE, 0)


def _now() -> datetime:
    return datetime.now(UTC)
