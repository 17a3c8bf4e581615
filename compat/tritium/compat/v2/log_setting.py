"""The logging extension's settings as JSON and as protobuf carry them, in Triton's words.

    POST /v2/logging      -> read_json ---.
                                           >-- LogUpdate -> LogSettingsControl.update (core.log_settings)
    LogSettings over gRPC -> read_values -'

What is not named, or null, stays. Unlike Triton, which applies what it has read up to the first mistake, an update
with a mistake changes nothing.
Source: server/src/http_server.cc, HandleLogging; server/src/grpc/grpc_server.cc, RegisterLogging; 2.73.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tritium.compat.v2.refusal import Code, Refusal, not_a, unparsable

LogValue = bool | int | str

FORMATS: Final = ("default", "ISO8601", "json", "console")
"""Triton's two, and ours: an object a line, and key=value for people."""

_SWITCHES: Final = ("log_info", "log_warning", "log_error")


@dataclass(frozen=True, slots=True)
class LogUpdate:
    """A wish to change how the server logs; None leaves a setting as it is."""

    info: bool | None = None
    warning: bool | None = None
    error: bool | None = None
    verbose_level: int | None = None
    format: str | None = None


def read_json(document: Any) -> LogUpdate:
    """Read the parsed body of a POST; an empty body is an empty object.

    Raises:
        Refusal: a value of the wrong type, an unknown format, or a wish to log to another file.
    """
    given = {k: v for k, v in document.items() if v is not None} if isinstance(document, dict) else {}
    _refuse_file(given)
    for name in _SWITCHES:
        if not isinstance(given.get(name, False), bool):
            raise unparsable(not_a("boolean"))
    level = given.get("log_verbose_level", 0)
    if type(level) is not int or not 0 <= level < 2**64:
        raise unparsable(not_a("unsigned-integer"))
    form = given.get("log_format", "default")
    if not isinstance(form, str):
        raise unparsable(not_a("string"))
    if form not in FORMATS:
        raise Refusal(f"invalid argument for --log_format, got: {form}", Code.UNAVAILABLE)
    return _update(given)


def read_values(settings: Mapping[str, LogValue | None]) -> LogUpdate:
    """Read the settings of a LogSettingsRequest: each a bool, an int, a str, or None where the choice is not set.

    Raises:
        Refusal: a value of the wrong type, an unknown format, or a wish to log to another file.
    """
    _refuse_file(settings)
    for name in _SWITCHES:
        if not isinstance(settings.get(name, False), bool):
            raise Refusal(f"expect boolean for '{name}'")
    if type(settings.get("log_verbose_level", 0)) is not int:
        raise Refusal("expect int32 for 'log_verbose_level'")
    form = settings.get("log_format", "default")
    if not isinstance(form, str):
        raise Refusal("expect string for 'log_format'")
    if form not in FORMATS:
        raise Refusal(f"invalid argument for log_format, got: {form}")
    return _update(settings)


def _update(given: Mapping[str, Any]) -> LogUpdate:
    level = given.get("log_verbose_level")
    return LogUpdate(
        given.get("log_info"),
        given.get("log_warning"),
        given.get("log_error"),
        None if level is None else _verbosity(level),
        given.get("log_format"),
    )


def _verbosity(level: int) -> int:
    """Return what is left of a number that Triton keeps in a signed 32-bit integer and then bounds by 0."""
    level &= 0xFFFFFFFF
    return 0 if level >= 2**31 else level


def _refuse_file(given: Mapping[str, Any]) -> None:
    if "log_file" in given:
        raise Refusal("log file location can not be updated through network protocol", Code.UNSUPPORTED)
