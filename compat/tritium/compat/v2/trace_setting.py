"""The trace extension's settings as JSON and as protobuf carry them, in Triton's words.

    POST /v2/trace/setting -> read_json --.
                                           >-- TraceUpdate -> TraceSettingsControl.update (core.trace_settings)
    TraceSetting over gRPC -> read_lists -'

What is not named stays; what is null (an empty list over gRPC) goes back to the setting of the level above. Names
that Triton does not know, of settings and of levels, are passed over, as there.
Source: server/src/http_server.cc, HandleTrace; server/src/grpc/grpc_server.cc, RegisterTrace; 2.73.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from tritium.compat.v2.refusal import Code, Refusal, not_a, unparsable

LEVELS: Final = ("TIMESTAMPS", "TENSORS")
"""What can be traced, in the order in which answers list it; neither of them is written OFF."""

_NAMES: Final = ("trace_file", "trace_level", "trace_rate", "trace_count", "log_frequency")
_LEAST_COUNT: Final = -1
_INT32: Final = range(-(2**31), 2**31)
_LEADING_INTEGER: Final = re.compile(r"\s*([+-]?\d+)", re.ASCII)


class Change(Enum):
    """What becomes of a setting that is given no new value."""

    KEEP = "keep"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class TraceUpdate:
    """A wish to change trace settings; `level` is a selection of LEVELS."""

    level: tuple[str, ...] | Change = Change.KEEP
    rate: int | Change = Change.KEEP
    count: int | Change = Change.KEEP
    log_frequency: int | Change = Change.KEEP


def read_json(document: Any) -> TraceUpdate:
    """Read the parsed body of a POST; an empty body is an empty object.

    Raises:
        Refusal: a value of the wrong type or range, or a wish to write another file.
    """
    given = document if isinstance(document, dict) else {}
    lists = {name: _strings(name, value) for name, value in given.items() if name in _NAMES}
    if given.get("trace_level") == []:
        del lists["trace_level"]
    return _read(lists, before_got="")


def read_lists(settings: Mapping[str, Sequence[str]]) -> TraceUpdate:
    """Read the settings of a TraceSettingRequest, each a list of strings.

    Raises:
        Refusal: a value out of range, several where one is expected, or a wish to write another file.
    """
    return _read(settings, before_got=" ")


def _read(settings: Mapping[str, Sequence[str]], *, before_got: str) -> TraceUpdate:
    """Read lists; `before_got` is what the protocol's message has before a count that is too low."""
    if "trace_file" in settings:
        raise Refusal("trace file location can not be updated through network protocol", Code.UNSUPPORTED)
    level = _level(settings.get("trace_level"))
    rate = _number(settings, "trace_rate")
    count = _number(settings, "trace_count", lowest=_LEAST_COUNT, highest=_INT32[-1])
    if isinstance(count, int) and count < _LEAST_COUNT:
        got = before_got + settings["trace_count"][0]
        raise Refusal(f"Unable to parse 'trace_count'. Expecting value >= {_LEAST_COUNT}, got:{got}")
    frequency = _number(settings, "log_frequency")
    # Triton keeps both as unsigned 32-bit integers, whatever sign they came with.
    return TraceUpdate(level, _unsigned(rate), count, _unsigned(frequency))


def _strings(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if name == "trace_level" and not isinstance(value, list):
        raise unparsable(not_a("array"))
    values = value if name == "trace_level" else [value]
    if name != "trace_file" and not all(isinstance(text, str) for text in values):
        raise unparsable(not_a("string"))
    return values


def _level(names: Sequence[str] | None) -> tuple[str, ...] | Change:
    if names is None:
        return Change.KEEP
    if not names:
        return Change.CLEAR
    if "OFF" in names and len(names) > 1:
        raise Refusal("Expect only one trace level 'OFF' is specified")
    chosen = tuple(level for level in LEVELS if level in names)
    return chosen if chosen or "OFF" in names else Change.KEEP


def _number(
    settings: Mapping[str, Sequence[str]], name: str, *, lowest: int = 0, highest: int = 2**32 - 1
) -> int | Change:
    """Read a number the way std::stoi does: what follows the digits is not looked at, and 32 bits must hold it."""
    values = settings.get(name)
    if values is None:
        return Change.KEEP
    if not values:
        return Change.CLEAR
    if len(values) > 1:
        raise Refusal(f"expect only 1 value for '{name}'")
    match = _LEADING_INTEGER.match(values[0])
    if match is None:
        raise Refusal(f"Unable to parse '{name}', got: {values[0]}")
    number = int(match[1])
    if number not in _INT32:
        raise Refusal(f"Unable to parse '{name}', value is out of range [ {lowest}, {highest} ], got: {values[0]}")
    return number


def _unsigned(number: int | Change) -> int | Change:
    return number & 0xFFFFFFFF if isinstance(number, int) else number
