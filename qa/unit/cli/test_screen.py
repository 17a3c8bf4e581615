"""What the start of a server shows: on a terminal, in a pipe, and as events of a JSON log."""

import io

import structlog

from tritium.cli.screen import Endpoint, LogDisplay, Row, Screen

READY = Row("add_sub", "1", "onnxruntime", "2 x CPU", "READY", 0.123)
FAILED = Row("broken", "1", "python", "1 x CPU", "UNAVAILABLE", 0.5, "Internal: boom\nAt: model.py", "mend it")
SERVED = [Endpoint("HTTP", "http://localhost:8000", "curl -s localhost:8000/v2")]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_lines_of_keys_and_values(monkeypatch) -> None:
    """Without a terminal each event is one line, without escape codes."""
    out = io.StringIO()
    screen = Screen(out)
    screen.loading("add_sub", "1")
    screen.loaded(READY)
    screen.ready([READY], SERVED)
    lines = out.getvalue().splitlines()
    assert lines[0] == "loading model=add_sub"
    assert lines[1] == "loaded model=add_sub version=1 state=READY seconds=0.12"
    assert "add_sub  1        onnxruntime  2 x CPU    READY  0.12 s" in lines
    assert "\033" not in out.getvalue()


def test_a_log_line_does_not_run_into_the_progress(monkeypatch) -> None:
    """A line written while a model loads stands on its own, and the progress is drawn again below it."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    screen = Screen(out)
    screen.loading("chat", "1")
    screen.write("worker_ready pid=1\n")
    shown = out.getvalue()
    assert "\r\033[Kworker_ready pid=1\n\r\033[K  loading chat" in shown


def test_a_failure_is_told_with_its_hint() -> None:
    """Below the table stand the whole reason and what to do."""
    out = io.StringIO()
    Screen(out).ready([READY, FAILED], [])
    assert "broken is not ready:\n  Internal: boom\n  At: model.py\n  hint: mend it" in out.getvalue()


def test_no_color_is_obeyed(monkeypatch) -> None:
    """With NO_COLOR a terminal gets no colours."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    Screen(out).ready([READY], SERVED)
    assert "\033[1m" not in out.getvalue()


def test_an_empty_server_says_so() -> None:
    """Without models there is no empty table."""
    out = io.StringIO()
    Screen(out).ready([], SERVED)
    assert "No models are loaded." in out.getvalue()
    assert "MODEL" not in out.getvalue()


def test_a_json_log_gets_events() -> None:
    """Everything the screen would show comes as an event with fields."""
    with structlog.testing.capture_logs() as events:
        display = LogDisplay()
        display.loading("add_sub", "1")
        display.loaded(READY)
        display.loaded(FAILED)
        display.ready([READY], SERVED)
    assert [event["event"] for event in events] == ["model_loading", "model_ready", "model_failed", "server_ready"]
    assert events[2]["hint"] == "mend it"
    assert events[3]["HTTP"] == "http://localhost:8000"
