"""--trace-config is read as tritonserver reads it."""

import pytest

from tritium.compat.flags import FlagError, parse
from tritium.compat.trace_config import TraceConfig, TraceConfigError, read_trace_config

PROCESSOR = (("bsp_max_queue_size", "2048"), ("bsp_schedule_delay", "5000"), ("bsp_max_export_batch_size", "512"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], TraceConfig()),
        (
            ["triton,file=t.json", "level=TENSORS", "level=timestamps", "rate=1", "count=5", "triton,log-frequency=2"],
            TraceConfig(("TIMESTAMPS", "TENSORS"), 1, 5, 2, "t.json"),
        ),
        (["level=MIN", "level=off"], TraceConfig()),
        (["rate=5", "rate=7", "TRITON,other=x"], TraceConfig(rate=7, options=(("other", "x"),))),
        (["rate=-1"], TraceConfig(rate=2**32 - 1)),
        (["mode=opentelemetry", "triton,file=ignored"], TraceConfig(mode="opentelemetry", options=PROCESSOR)),
        (
            ["mode=OpenTelemetry", "opentelemetry,resource=a=b", "opentelemetry,bsp_schedule_delay=0"],
            TraceConfig(
                mode="opentelemetry",
                options=(("resource", "a=b"), ("bsp_schedule_delay", "0"), PROCESSOR[0], PROCESSOR[2]),
            ),
        ),
    ],
)
def test_settings(settings: list[str], expected: TraceConfig) -> None:
    """The last of a name wins, levels add up unless one is OFF, and a mode sees only its own options."""
    assert read_trace_config(settings, {}) == expected


def test_the_environment_gives_defaults_of_the_span_processor() -> None:
    """As OpenTelemetry names them; a flag wins."""
    environment = {"OTEL_BSP_MAX_QUEUE_SIZE": "7", "OTEL_BSP_SCHEDULE_DELAY": "8"}
    config = read_trace_config(["mode=opentelemetry", "opentelemetry,bsp_schedule_delay=9"], environment)
    assert dict(config.options) == {
        "bsp_max_queue_size": "7",
        "bsp_schedule_delay": "9",
        "bsp_max_export_batch_size": "512",
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (",file=x", "No trace mode specified"),
        ("triton,file", "--trace-config option format is '<trace mode>,<setting>=<value>'. Got triton,file"),
        ("rate=", "--trace-config option format is"),
        ("zipkin,url=x", "invalid value for trace mode option: zipkin"),
        ("mode=zipkin", "invalid value for trace mode option: zipkin"),
        ("level=loud", "invalid value for trace level option: loud"),
        ("rate=many", 'Bad option: "--trace-config rate".\nInvalid option value. Got many'),
        ("count=2147483648", "Provided option value is out of bound. Got 2147483648"),
    ],
)
def test_mistakes(setting: str, message: str) -> None:
    """What cannot be read is refused in Triton's words."""
    with pytest.raises(TraceConfigError) as refused:
        read_trace_config([setting], {})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "environment", "option"),
    [
        (["opentelemetry,bsp_max_queue_size=x"], {}, "--trace-config opentelemetry,bsp_max_queue_size"),
        ([], {"OTEL_BSP_SCHEDULE_DELAY": "-1"}, "OTEL_BSP_SCHEDULE_DELAY"),
    ],
)
def test_mistakes_in_the_span_processor_name_their_source(
    settings: list[str], environment: dict[str, str], option: str
) -> None:
    """A flag or a variable."""
    with pytest.raises(TraceConfigError) as refused:
        read_trace_config(["mode=opentelemetry", *settings], environment)
    assert f'Bad option: "{option}"' in str(refused.value)


def test_a_flag_may_be_cut_short_as_getopt_has_it() -> None:
    """As long as no other begins so; a whole name always stands for itself."""
    assert parse(["--log-warn=false", "--log-file=x"]).settings == {"log_warning": False, "log_file": "x"}
    with pytest.raises(FlagError, match="option '--log-f' is ambiguous; possibilities: '--log-file' '--log-format'"):
        parse(["--log-f=x"])
    with pytest.raises(FlagError, match="unrecognized option '--log-what'"):
        parse(["--log-what=x"])


def test_deprecated_flags_become_settings_that_the_new_one_overrides() -> None:
    """Each is told about."""
    flags = "--trace-file=a --trace-level=TIMESTAMPS --trace-rate=100 --trace-count=9 --trace-log-frequency=5"
    parsed = parse([*flags.split(), "--trace-config=rate=1", "--trace-config", "triton,file=b"])
    assert len(parsed.notes) == 5
    assert all(note.startswith("Warning: '--trace-") and "has been deprecated" in note for note in parsed.notes)
    settings = parsed.settings["trace_config"]
    assert isinstance(settings, list)
    assert read_trace_config(settings, {}) == TraceConfig(("TIMESTAMPS",), 1, 9, 5, "b")
