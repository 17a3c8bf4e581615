"""Logging, set up once: events with fields, one line each, in the form and of the severities that are set.

    log = configure(LogSettings(format="json"))
    structlog.get_logger("tritium.wire").info("model_loaded", model="resnet", seconds=0.8)
    log.update(LogUpdate(info=False))     # from the next event on

Loggers may be made before `configure` is called. What libraries log the standard way comes out in the same form.
Severities are switched as in Triton: `debug` is written where the verbose level is above 0, the others by switches.
"""

import contextlib
import logging
import sys
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

import structlog
from structlog.processors import CallsiteParameter, CallsiteParameterAdder
from structlog.typing import EventDict, WrappedLogger

from tritium.compat.v2.log_setting import LogUpdate
from tritium.core.log_settings import LogSettings
from tritium.observe.log_lines import FILE, FORMS, LIBRARY_LOG, LINE

_TRITONS: Final = ("default", "ISO8601")


class LineWriter(Protocol):
    """What lines are written to: a file, or whatever stands in for standard error."""

    def write(self, text: str, /) -> int:
        """Write one or more whole lines."""
        ...

    def flush(self) -> None:
        """Make sure that they are seen."""
        ...


class Log:
    """The settings in effect; see `core.log_settings.LogSettingsControl`."""

    def __init__(self, settings: LogSettings, out: LineWriter, info: LineWriter) -> None:
        self.settings = settings
        self._out = out
        self._info = info

    def update(self, update: LogUpdate) -> None:
        """Change the settings that an update names, from the next line on."""
        self.settings = self.settings.changed(update)
        logging.getLogger().setLevel(self.library_level)

    @property
    def library_level(self) -> int:
        """Return the least severe level that is worth passing on from libraries, which are never asked for more."""
        settings = self.settings
        if settings.info:
            return logging.INFO
        return logging.WARNING if settings.warning else logging.ERROR

    def write(self, line: str, *, severe: bool) -> None:
        """Write a finished line; in Triton's forms, those that are not severe have a stream of their own."""
        out = self._out if severe or self.settings.format not in _TRITONS else self._info
        # A full disk or a closed terminal must not cost a request its answer.
        with contextlib.suppress(OSError):
            out.write(line + "\n")
            out.flush()


def configure(
    settings: LogSettings, stream: LineWriter | None = None, info: LineWriter | None = None, *, lasting: bool = True
) -> Log:
    """Send all logging where the settings say; `stream` stands in for standard error, `info` for standard output.

    What is `lasting` is faster, and cannot be undone: loggers remember it.

    Raises:
        OSError: the file cannot be opened.
    """
    file = _open(Path(settings.file)) if settings.file else None
    log = Log(settings, file or stream or sys.stderr, file or info or sys.stdout)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_name,
            structlog.processors.format_exc_info,
            _Form(log),
        ],
        wrapper_class=_switched(log),
        logger_factory=lambda *names: _Line(log, *names),
        cache_logger_on_first_use=lasting,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Bridge)]:
        root.removeHandler(handler)
        handler.close()
    root.addHandler(_Bridge(file))
    root.setLevel(log.library_level)
    return log


class _Line:
    """What structlog calls an underlying logger: writes finished lines."""

    def __init__(self, log: Log, name: str = "") -> None:
        self._log = log
        self.name = name

    def msg(self, line: str) -> None:
        self._log.write(line, severe=False)

    def severe(self, line: str) -> None:
        self._log.write(line, severe=True)

    debug = info = msg
    warning = error = critical = severe


class _Form:
    """The last processor: makes the line, in the form that is set when it is asked."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._where = CallsiteParameterAdder(
            {CallsiteParameter.FILENAME, CallsiteParameter.LINENO}, additional_ignores=[__name__]
        )

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        form = self._log.settings.format
        fields = dict(event)
        if form in _TRITONS and FILE not in fields:
            found = self._where(logger, method, {})
            fields[FILE], fields[LINE] = found["filename"], found["lineno"]
        return FORMS[form](fields)


def _switched(log: Log) -> type[structlog.BoundLoggerBase]:
    """Return a logger whose methods do nothing while their severity is off."""

    class Switched(structlog.BoundLoggerBase):
        def debug(self, event: str, **fields: Any) -> None:
            if log.settings.verbose_level:
                self._proxy_to_logger("debug", event, **fields)

        def info(self, event: str, **fields: Any) -> None:
            if log.settings.info:
                self._proxy_to_logger("info", event, **fields)

        def warning(self, event: str, **fields: Any) -> None:
            if log.settings.warning:
                self._proxy_to_logger("warning", event, **fields)

        def error(self, event: str, **fields: Any) -> None:
            if log.settings.error:
                self._proxy_to_logger("error", event, **fields)

        def critical(self, event: str, **fields: Any) -> None:
            if log.settings.error:
                self._proxy_to_logger("critical", event, **fields)

        def exception(self, event: str, **fields: Any) -> None:
            fields.setdefault("exc_info", True)
            self.error(event, **fields)

        def log(self, level: int, event: str, **fields: Any) -> None:
            by_level = ((logging.ERROR, self.error), (logging.WARNING, self.warning), (logging.INFO, self.info))
            write = next((method for least, method in by_level if level >= least), self.debug)
            write(event, **fields)

    return Switched


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
        fields: dict[str, Any] = {"message": record.getMessage(), FILE: record.filename, LINE: record.lineno}
        if record.exc_info and record.exc_info[0] is not None:
            fields["exc_info"] = record.exc_info
        structlog.get_logger(record.name).log(record.levelno, LIBRARY_LOG, **fields)


def _open(path: Path) -> TextIO:
    return path.open("a", buffering=1, encoding="utf-8")


def _add_name(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:  # noqa: ARG001 - structlog's signature
    if logger.name:
        event["logger"] = logger.name
    return event
