"""Log lines: their two forms, their levels, and what libraries log."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tritium.observe.log import LogSettings, configure


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_console_lines() -> None:
    """Time, level, event, then fields as key=value, quoted where that is needed to read them back."""
    out = io.StringIO()
    configure(LogSettings(), out)
    structlog.get_logger("tritium.x").info("model_loaded", model="resnet", reason='two words "quoted"', n=1, e="")
    stamp, line = out.getvalue().split(" ", 1)
    assert stamp.endswith("Z")
    assert line == ('info    model_loaded model=resnet reason="two words \\"quoted\\"" n=1 e="" logger=tritium.x\n')


def test_json_lines() -> None:
    """Every line is one JSON object."""
    out = io.StringIO()
    configure(LogSettings(format="json"), out)
    structlog.get_logger("tritium.x").warning("slow", seconds=0.5, path=Path("/x"))
    event = json.loads(out.getvalue())
    del event["timestamp"]
    assert event == {"level": "warning", "event": "slow", "seconds": 0.5, "path": "/x", "logger": "tritium.x"}


def test_levels() -> None:
    """What is less severe than the configured level is not written."""
    out = io.StringIO()
    configure(LogSettings(level="warning"), out)
    log = structlog.get_logger("tritium.x")
    log.debug("a")
    log.info("b")
    log.error("c")
    assert [line.split()[2] for line in out.getvalue().splitlines()] == ["c"]


def test_tracebacks() -> None:
    """An exception is a field in JSON, and lines of its own on the console."""
    for form in ("json", "console"):
        out = io.StringIO()
        configure(LogSettings(format=form), out)
        try:
            raise ValueError("boom")
        except ValueError:
            structlog.get_logger("tritium.x").exception("failed")
        assert "ValueError: boom" in out.getvalue()
        assert len(out.getvalue().splitlines()) == (1 if form == "json" else 5)


def test_libraries_log_in_the_same_form() -> None:
    """Records of the standard library's logging come out as events, once each."""
    out = io.StringIO()
    configure(LogSettings(format="json"), out)
    configure(LogSettings(format="json"), out)
    logging.getLogger("asyncio").error("Task %s was destroyed", "t1")
    (line,) = out.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event"], event["message"], event["logger"]) == ("library_log", "Task t1 was destroyed", "asyncio")


def test_log_file(tmp_path: Path) -> None:
    """A file is appended to, line by line."""
    path = tmp_path / "server.log"
    path.write_text("before\n")
    configure(LogSettings(file=str(path)))
    structlog.get_logger("tritium.x").info("hello")
    assert [line.split()[-2] if "hello" in line else line for line in path.read_text().splitlines()] == [
        "before",
        "hello",
    ]
