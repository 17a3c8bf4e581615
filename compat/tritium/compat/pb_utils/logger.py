"""The server's log, from inside a model."""

from enum import Enum

from tritium.compat.pb_utils.runtime import runtime


class LogLevel(Enum):
    """Severities; the value is the name of the server's log method."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    VERBOSE = "debug"


class Logger:
    """Static methods only, as models use it."""

    INFO = LogLevel.INFO
    WARNING = LogLevel.WARNING
    ERROR = LogLevel.ERROR
    VERBOSE = LogLevel.VERBOSE

    @staticmethod
    def log(message: str, level: LogLevel = LogLevel.INFO) -> None:
        """Log at a level.

        Raises:
            TypeError: the message is no str, or the level none of Logger's.
        """
        if not isinstance(level, LogLevel):
            raise TypeError(f"level must be a pb_utils.LogLevel, not {type(level).__name__}")
        _log(level.value, message)

    @staticmethod
    def log_info(message: str) -> None:
        """Log at INFO."""
        _log("info", message)

    @staticmethod
    def log_warn(message: str) -> None:
        """Log at WARNING."""
        _log("warning", message)

    @staticmethod
    def log_error(message: str) -> None:
        """Log at ERROR."""
        _log("error", message)

    @staticmethod
    def log_verbose(message: str) -> None:
        """Log at VERBOSE."""
        _log("debug", message)


def _log(level: str, message: str) -> None:
    if not isinstance(message, str):
        raise TypeError(f"message must be a str, not {type(message).__name__}")
    runtime().log(level, message)


# Models write pb_utils.Logger.LogLevel too; set here, for inside the class the name would hide the type.
Logger.LogLevel = LogLevel  # type: ignore[attr-defined]
