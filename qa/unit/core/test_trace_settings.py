"""Trace settings fall back from a model to the server to what the server was started with."""

import pytest

from tritium.compat.v2.trace_setting import Change, TraceUpdate
from tritium.core.errors import InvalidArgument
from tritium.core.trace_settings import OPENTELEMETRY, TraceSettings, TraceSettingsBook

STARTED = TraceSettings(level=("TIMESTAMPS",), rate=1000, file="trace.json")


def test_a_server_that_was_not_asked_to_trace_lists_the_defaults() -> None:
    """The rows are those of the trace extension, in Triton's order."""
    rows = TraceSettingsBook().settings().rows()
    assert list(rows.items()) == [
        ("trace_level", ("OFF",)),
        ("trace_rate", "1000"),
        ("trace_count", "-1"),
        ("log_frequency", "0"),
        ("trace_file", ""),
        ("trace_mode", "triton"),
    ]


def test_open_telemetry_lists_its_options_and_no_file() -> None:
    """What belongs to files is left out; the options of the mode follow it."""
    settings = TraceSettings(mode=OPENTELEMETRY, options=(("url", "host:1"), ("bsp_max_queue_size", "2048")))
    assert list(settings.rows()) == [
        "trace_level",
        "trace_rate",
        "trace_count",
        "trace_mode",
        "url",
        "bsp_max_queue_size",
    ]


def test_a_model_keeps_what_it_specified_and_follows_the_server_in_the_rest() -> None:
    """A later change of the server reaches the fields that the model did not specify."""
    book = TraceSettingsBook(STARTED)
    book.update("m", TraceUpdate(rate=7))
    book.update("", TraceUpdate(rate=5, count=9))
    assert (book.settings("m").rate, book.settings("m").count) == (7, 9)
    assert book.settings("other").rate == 5


def test_cleared_fields_fall_back() -> None:
    """A model falls back to the server, the server to what it was started with."""
    book = TraceSettingsBook(STARTED)
    book.update("", TraceUpdate(rate=5, level=("TENSORS",)))
    book.update("m", TraceUpdate(rate=7, log_frequency=2))
    book.update("m", TraceUpdate(rate=Change.CLEAR))
    assert (book.settings("m").rate, book.settings("m").log_frequency) == (5, 2)
    book.update("", TraceUpdate(rate=Change.CLEAR, level=Change.CLEAR))
    assert book.settings() == STARTED


@pytest.mark.parametrize(
    ("started", "update", "reason"),
    [
        (TraceSettings(), TraceUpdate(level=("TIMESTAMPS",)), "trace file name is not given"),
        (STARTED, TraceUpdate(rate=0), "sample rate must be non-zero"),
    ],
)
@pytest.mark.parametrize("model", ["", "m"])
def test_settings_that_could_trace_nothing_are_refused(
    started: TraceSettings, update: TraceUpdate, reason: str, model: str
) -> None:
    """The refusal has Triton's words and changes nothing."""
    book = TraceSettingsBook(started)
    with pytest.raises(InvalidArgument, match=f"^Attempting to set invalid trace setting :{reason}$"):
        book.update(model, update)
    assert book.settings(model) == started


def test_anything_goes_while_tracing_is_off() -> None:
    """Settings that could not trace are taken where the level is off."""
    book = TraceSettingsBook()
    book.update("", TraceUpdate(rate=0))
    assert book.settings().rows()["trace_rate"] == "0"
