"""Log lines: their two forms, their levels, and what libraries log."""

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tritium.compat.v2.log_setting import LogUpdate
from tritium.core.log_settings import LogSettings
from tritium.observe.log import configure
from tritium.observe.log_lines import TABLE


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
    configure(LogSettings(format="console"), out)
    structlog.get_logger("tritium.x").info("model_loaded", model="resnet", reason='two words "quoted"', n=1, e="")
    stamp, line = out.getvalue().split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp)
    assert line == ('info    model_loaded model=resnet reason="two words \\"quoted\\"" n=1 e="" logger=tritium.x\n')


def test_json_lines() -> None:
    """Every line is one JSON object."""
    out = io.StringIO()
    configure(LogSettings(format="json"), out)
    structlog.get_logger("tritium.x").warning("slow", seconds=0.5, path=Path("/x"))
    event = json.loads(out.getvalue())
    del event["timestamp"]
    assert event == {"level": "warning", "event": "slow", "seconds": 0.5, "path": "/x", "logger": "tritium.x"}


def test_severities_are_switched_one_by_one_and_at_once() -> None:
    """A logger that was used before obeys a change, and so do libraries; verbose lines have a level of their own."""
    out = io.StringIO()
    switches = configure(LogSettings(format="console"), out)
    log = structlog.get_logger("tritium.x").bind()

    def written() -> list[str]:
        out.seek(0)
        out.truncate()
        log.debug("d")
        log.info("i")
        log.warning("w")
        log.error("e")
        logging.getLogger("lib").info("library")
        return [line.split()[2] for line in out.getvalue().splitlines()]

    assert written() == ["i", "w", "e", "library_log"]
    switches.update(LogUpdate(info=False))
    assert written() == ["w", "e"]
    switches.update(LogUpdate(warning=False, verbose_level=1))
    assert written() == ["d", "e"]
    switches.update(LogUpdate(info=True, error=False))
    assert written() == ["d", "i", "library_log"]
    assert switches.settings == LogSettings(info=True, warning=False, error=False, verbose_level=1, format="console")


DEFAULT = re.compile(r"([IWE])(\d\d\d\d) \d\d:\d\d:\d\d\.\d{6} (\d+) ([\w.]+):(\d+)\] (.*)")
ISO8601 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ([IWE]) (\d+) ([\w.]+):(\d+)\] (.*)")


def test_tritons_lines() -> None:
    """Severity, month and day, time, process, file and line, and the message as JSON writes a string."""
    out = io.StringIO()
    configure(LogSettings(verbose_level=1), out, out)
    log = structlog.get_logger("tritium.x")
    log.info("model_ready", model="m", seconds=0.5)
    log.warning('quoted "a" \u001b[31m\n')
    log.error("bad")
    log.debug("detail")
    logging.getLogger("lib").warning("from %s", "outside")
    matches = [DEFAULT.fullmatch(line) for line in out.getvalue().splitlines()]
    assert all(matches)
    rows = [match.groups() for match in matches if match]
    assert [row[0] for row in rows] == ["I", "W", "E", "I", "W"]
    assert {row[2] for row in rows} == {str(os.getpid())}
    assert {row[3] for row in rows} == {"test_log.py"}
    assert [int(row[4]) - int(rows[0][4]) for row in rows] == [0, 1, 2, 3, 4]
    assert [json.loads(row[5]) for row in rows] == [
        "model_ready model=m seconds=0.5",
        'quoted "a" \u001b[31m\n',
        "bad",
        "detail",
        "from outside",
    ]


def test_what_is_not_severe_has_a_stream_of_its_own_in_tritons_forms() -> None:
    """Standard output, as in Triton; a file gets everything."""
    severe, info = io.StringIO(), io.StringIO()
    configure(LogSettings(verbose_level=1), severe, info)
    log = structlog.get_logger("tritium.x")
    for write in (log.debug, log.info, log.warning, log.error):
        write("m")
    assert [line[0] for line in info.getvalue().splitlines()] == ["I", "I"]
    assert [line[0] for line in severe.getvalue().splitlines()] == ["W", "E"]


def test_the_form_changes_while_the_server_runs() -> None:
    """From the next line on."""
    out = io.StringIO()
    log = configure(LogSettings(), out, out)
    logger = structlog.get_logger("tritium.x").bind()
    logger.info("one")
    log.update(LogUpdate(format="ISO8601"))
    logger.info("two")
    log.update(LogUpdate(format="json"))
    logger.info("three")
    first, second, third = out.getvalue().splitlines()
    assert DEFAULT.fullmatch(first)
    assert ISO8601.fullmatch(second)
    assert json.loads(third)["event"] == "three"


def test_messages_are_written_as_they_are_when_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRITON_SERVER_ESCAPE_LOG_MESSAGES=0 is Triton's switch for it."""
    monkeypatch.setenv("TRITON_SERVER_ESCAPE_LOG_MESSAGES", "0")
    out = io.StringIO()
    configure(LogSettings(), out, out)
    structlog.get_logger("tritium.x").info('a "b"')
    assert out.getvalue().endswith('] a "b"\n')


def test_a_table_follows_its_line() -> None:
    """As in Triton: nothing after the place, then the table, then an empty line."""
    out = io.StringIO()
    configure(LogSettings(), out, out)
    structlog.get_logger("tritium.x").info("table", **{TABLE: "+---+\n| a |\n+---+"})
    head, *rest = out.getvalue().splitlines()
    assert head.endswith("] ")
    assert rest == ["+---+", "| a |", "+---+", ""]


def test_what_models_log_is_their_message_alone() -> None:
    """In Triton's form, where the instance would be in the way of those who look for the message."""
    out = io.StringIO()
    configure(LogSettings(), out, out)
    structlog.get_logger("tritium.x").info("model_log", instance="m_0_0", message="Infer Msg!")
    assert out.getvalue().endswith('] "Infer Msg!"\n')


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
    configure(LogSettings(file=str(path), format="console"))
    structlog.get_logger("tritium.x").info("hello")
    assert [line.split()[-2] if "hello" in line else line for line in path.read_text().splitlines()] == [
        "before",
        "hello",
    ]
