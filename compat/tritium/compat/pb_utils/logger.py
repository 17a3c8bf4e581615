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
        """Log at a level."""
        runtime().log(level.value, str(message))

    @staticmethod
    def log_info(message: str) -> None:
        """Log at INFO."""
        runtime().log("info", str(message))

    @staticmethod
    def log_warn(message: str) -> None:
        """Log at WARNING."""
        runtime().log("warning", str(message))

    @staticmethod
    def log_error(message: str) -> None:
        """Log at ERROR."""
        runtime().log("error", str(message))

    @staticmethod
    def log_verbose(message: str) -> None:
        """Log at VERBOSE."""
        runtime().log("debug", str(message))


# Models write pb_utils.Logger.LogLevel too; set here, for inside the class the name would hide the type.
Logger.LogLevel = LogLevel  # type: ignore[attr-defined]
