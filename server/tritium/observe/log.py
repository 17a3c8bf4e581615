"""Logging, set up once: events with fields, one line each, as `key=value` or as JSON.

    configure(LogSettings(format="json", level="info"))
    log = structlog.get_logger("tritium.wire")
    log.info("model_loaded", model="resnet", seconds=0.8)

Loggers may be made before `configure` is called. What libraries log the standard way comes out in the same form.
"""

import contextlib
import io
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How log lines look (`console` or `json`), the least severe level, and the file (none: standard error)."""

    format: str = "console"
    level: str = "info"
    file: str = ""


class LineWriter(Protocol):
    """What lines are written to: a file, or whatever stands in for standard error."""

    def write(self, text: str, /) -> int:
        """Write one or more whole lines."""
        ...

    def flush(self) -> None:
        """Make sure that they are seen."""
        ...


def configure(settings: LogSettings, stream: LineWriter | None = None) -> None:
    """Send all logging where the settings say; `stream` stands in for standard error.

    Raises:
        OSError: the file cannot be opened.
    """
    file = _open(Path(settings.file)) if settings.file else None
    out: LineWriter = file or stream or sys.stderr
    render = _as_json if settings.format == "json" else _as_text
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_name,
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[settings.level]),
        logger_factory=lambda *names: _Line(out, *names),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Bridge)]:
        root.removeHandler(handler)
        handler.close()
    root.addHandler(_Bridge(file))
    root.setLevel(max(LEVELS[settings.level], logging.INFO))


class _Line:
    """What structlog calls an underlying logger: writes finished lines."""

    def __init__(self, out: LineWriter, name: str = "") -> None:
        self._out = out
        self.name = name

    def msg(self, line: str) -> None:
        # A full disk or a closed terminal must not cost a request its answer.
        with contextlib.suppress(OSError):
            self._out.write(line + "\n")
            self._out.flush()

    debug = info = warning = error = critical = exception = msg


class _Bridge(logging.Handler):
    """Turns records of the standard library's logging into events; closes the log file when logging shuts down."""

    def __init__(self, file: TextIO | None) -> None:
        super().__init__()
        self._file = file

    def close(self) -> None:
        """Close the log file, which only `configure` opened."""
        super().close()
        if self._file is not None:
            self._file.close()

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"message": record.getMessage()}
        if record.exc_info and record.exc_info[0] is not None:
            fields["exc_info"] = record.exc_info
        structlog.get_logger(record.name).log(record.levelno, "library_log", **fields)


def _open(path: Path) -> TextIO:
    return path.open("a", buffering=1, encoding="utf-8")


def _add_name(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:  # noqa: ARG001 - structlog's signature
    if logger.name:
        event["logger"] = logger.name
    return event


def _as_json(logger: WrappedLogger, method: str, event: EventDict) -> str:  # noqa: ARG001 - structlog's signature
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _as_text(logger: WrappedLogger, method: str, event: EventDict) -> str:  # noqa: ARG001 - structlog's signature
    """Write `time level event key=value ...`; a traceback follows on lines of its own."""
    traceback = event.pop("exception", "")
    head = (event.pop("timestamp"), f"{event.pop('level'):7}", event.pop("event"))
    line = io.StringIO()
    line.write(" ".join(map(str, head)))
    for key, value in event.items():
        line.write(f" {key}={_quoted(value)}")
    if traceback:
        line.write("\n" + traceback)
    return line.getvalue()


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not set(text) & set(' ="')
    return text if plain else orjson.dumps(text).decode()
