"""What --trace-config and the deprecated --trace-* flags ask for.

    --trace-config triton,file=trace.json --trace-config level=TIMESTAMPS --trace-config rate=10
    --trace-config mode=opentelemetry --trace-config opentelemetry,url=collector:4318/v1/traces

Source: server/src/command_line_parser.cc, ParseTraceConfigOption and what follows PostProcessTraceArgs, 2.73.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MODES: Final = ("triton", "opentelemetry")

_LEVELS: Final[Mapping[str, str]] = {
    "false": "", "off": "", "true": "TIMESTAMPS", "on": "TIMESTAMPS", "min": "TIMESTAMPS", "max": "TIMESTAMPS",
    "timestamps": "TIMESTAMPS", "tensors": "TENSORS",
}  # fmt: skip

_PROCESSOR: Final[Mapping[str, str]] = {
    "bsp_max_queue_size": "2048",
    "bsp_schedule_delay": "5000",
    "bsp_max_export_batch_size": "512",
}
"""The options of OpenTelemetry's batch span processor (sizes in spans, the delay in milliseconds)."""

_FORMAT: Final = "--trace-config option format is '<trace mode>,<setting>=<value>'. Got "


class TraceConfigError(ValueError):
    """A setting that cannot be read, in Triton's words."""


@dataclass(frozen=True, slots=True)
class TraceConfig:
    """The trace settings a server starts with; `options` are the further ones of its mode, by name, in their order."""

    level: tuple[str, ...] = ()
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0
    file: str = ""
    mode: str = "triton"
    options: tuple[tuple[str, str], ...] = ()


def read_trace_config(settings: Sequence[str], environment: Mapping[str, str]) -> TraceConfig:
    """Read the values of --trace-config; the last of a name wins, levels add up, and OFF turns all of them off.

    `environment` gives the defaults of OpenTelemetry's processor: OTEL_BSP_MAX_QUEUE_SIZE and its like.

    Raises:
        TraceConfigError: a value that cannot be read.
    """
    by_mode: dict[str, list[tuple[str, str]]] = {"": [], **{mode: [] for mode in MODES}}
    for setting in settings:
        mode, name, value = _parts(setting)
        by_mode[mode].append((name, value))
    common = dict(by_mode[""])
    mode = _mode(common.get("mode", "triton"))
    options = by_mode[mode]
    given = dict(options)
    return TraceConfig(
        _level([value for name, value in by_mode[""] if name == "level"]),
        _whole(common.get("rate", "1000"), "--trace-config rate") & 0xFFFFFFFF,
        _whole(common.get("count", "-1"), "--trace-config count"),
        _whole(given.get("log-frequency", "0"), "--trace-config triton,log-frequency") if mode == "triton" else 0,
        given.get("file", "") if mode == "triton" else "",
        mode,
        tuple(_processor(options, environment) if mode == "opentelemetry" else _others(options)),
    )


def _parts(setting: str) -> tuple[str, str, str]:
    mode, comma, rest = setting.partition(",")
    if not comma:
        mode, rest = "", setting
    elif not mode:
        raise TraceConfigError(
            "No trace mode specified. --trace-config option format is <trace mode>,<setting>=<value> or "
            f"<setting>=<value>. Got {setting}"
        )
    name, equals, value = rest.partition("=")
    if not equals or not name or not value:
        raise TraceConfigError(_FORMAT + setting)
    return (_mode(mode) if mode else ""), name, value


def _mode(text: str) -> str:
    if text.lower() not in MODES:
        raise TraceConfigError(
            f'invalid value for trace mode option: {text.lower()}. Available options are "triton" and "opentelemetry"'
        )
    return text.lower()


def _level(values: Sequence[str]) -> tuple[str, ...]:
    chosen = []
    for value in values:
        level = _LEVELS.get(value.lower())
        if level is None:
            problem = f"invalid value for trace level option: {value.lower()}"
            raise TraceConfigError(f'Bad option: "--trace-config level".\n{problem}')
        chosen.append(level)
    return () if "" in chosen else tuple(level for level in ("TIMESTAMPS", "TENSORS") if level in chosen)


def _processor(options: Sequence[tuple[str, str]], environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the options with those of the batch span processor that were not given."""
    for name, value in options:
        if name in _PROCESSOR:
            _unsigned(value, f"--trace-config opentelemetry,{name}")
    given = {name for name, _ in options}
    defaults = []
    for name, default in _PROCESSOR.items():
        if name not in given:
            variable = f"OTEL_{name.upper()}"
            value = environment.get(variable, default)
            defaults.append((name, str(_unsigned(value, variable))))
    return [*options, *defaults]


def _others(options: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in options if name not in ("file", "log-frequency")]


def _whole(text: str, option: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise TraceConfigError(f'Bad option: "{option}".\nInvalid option value. Got {text}') from None
    if not -(2**31) <= number < 2**31:
        raise TraceConfigError(f'Bad option: "{option}".\nProvided option value is out of bound. Got {text}')
    return number


def _unsigned(text: str, option: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise TraceConfigError(f'Bad option: "{option}".\nInvalid option value. Got {text}')
    if int(text) >= 2**32:
        raise TraceConfigError(f'Bad option: "{option}".\nProvided option value is out of bound. Got {text}')
    return int(text)
