"""What a person sees: loading as it goes, then a table of models and one command to copy for each protocol.

On a terminal the line being worked on is rewritten in place; in a pipe each event is a line of its own. NO_COLOR
and TERM=dumb are obeyed.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

import structlog

_PIPE_TELLS_EVERY_S = 15
_GREEN, _RED, _DIM, _BOLD, _RESET = "\033[32m", "\033[31m", "\033[2m", "\033[1m", "\033[0m"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the ready table; `reason` says why a model is not ready."""

    model: str
    version: str
    backend: str
    instances: str
    state: str
    seconds: float
    reason: str = ""
    hint: str = ""

    @property
    def failure(self) -> str:
        """Say in lines why it is not ready and what to do about it."""
        lines = [*self.reason.splitlines(), *([f"hint: {self.hint}"] if self.hint else [])]
        return "\n  ".join(lines)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A protocol that is served, where, and a command that shows it at work."""

    protocol: str
    url: str
    command: str = ""
    address: str = ""
    """Where it listens, as HOST:PORT."""


class Display(Protocol):
    """Where the start of a server is shown."""

    def loading(self, model: str, version: str) -> None:
        """Show that a version has begun to load."""
        ...

    def loaded(self, row: Row) -> None:
        """Show that a version is ready, or why it is not."""
        ...

    def unloaded(self, model: str, version: str) -> None:
        """Show that a version has ended."""
        ...

    def tick(self) -> None:
        """Show, about once a second, that loading goes on."""
        ...

    def ready(self, rows: Sequence[Row], endpoints: Sequence[Endpoint]) -> None:
        """Show what is served, and where."""
        ...

    def draining(self, within_s: float) -> None:
        """Show that the server ends once its requests have, or the time is over."""
        ...

    def say(self, text: str) -> None:
        """Show one sentence."""
        ...


class Screen:
    """Writes progress and the ready table for a person. It is also the stream that log lines go to meanwhile."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty() and os.environ.get("TERM") != "dumb"
        self._color = self._live and "NO_COLOR" not in os.environ
        self._began = time.monotonic()
        self._loading: dict[str, float] = {}
        self._told_s = 0
        self._log = structlog.get_logger("tritium")

    def loading(self, model: str, version: str) -> None:  # noqa: ARG002 - models are what a person waits for
        """Show that a model has begun to load."""
        self._loading[model] = time.monotonic()
        if self._live:
            self._rewrite()
        else:
            self._line(f"loading model={model}")

    def loaded(self, row: Row) -> None:
        """Show that a version is ready, or why it is not."""
        self._loading.pop(row.model, None)
        if not self._live:
            reason = f' reason="{row.reason}"' if row.reason else ""
            of_version = f"model={row.model} version={row.version}"
            self._line(f"loaded {of_version} state={row.state} seconds={row.seconds:.2f}{reason}")
            return
        ready = row.state == "READY"
        mark = self._paint("ready ", _GREEN) if ready else self._paint("failed", _RED)
        about = f"({row.seconds:.1f} s)" if ready else row.reason.partition("\n")[0]
        self.say(f"  {mark} {row.model} {row.version} {about}")

    def unloaded(self, model: str, version: str) -> None:
        """Log that a version has ended."""
        self._log.info("model_unloaded", model=model, version=version)

    def tick(self) -> None:
        """Count the seconds of what still loads; in a pipe, say so every quarter of a minute."""
        if self._live:
            self._rewrite()
            return
        now = time.monotonic()
        if self._loading and now - self._began >= self._told_s + _PIPE_TELLS_EVERY_S:
            self._told_s = int(now - self._began)
            for model, began in self._loading.items():
                self._line(f"loading model={model} seconds={now - began:.0f}")

    def ready(self, rows: Sequence[Row], endpoints: Sequence[Endpoint]) -> None:
        """Write the table and the commands."""
        self._loading.clear()
        self.say("")
        for line in table(rows) if rows else ["No models are loaded."]:
            self._line(line)
        for row in rows:
            if row.reason:
                self._line(f"\n{self._paint(row.model, _RED)} is not ready:\n  {row.failure}")
        self._line("")
        for endpoint in endpoints:
            self._line(f"{endpoint.protocol:8} {self._paint(endpoint.url, _BOLD)}")
            if endpoint.command:
                self._line(f"         {self._paint(endpoint.command, _DIM)}")
        self._line(f"\nReady in {time.monotonic() - self._began:.1f} s. Ctrl-C drains and stops.")

    def draining(self, within_s: float) -> None:  # noqa: ARG002 - who waits sees how long it takes
        """Say how to have it faster."""
        self.say("Draining; again Ctrl-C to stop at once.")

    def say(self, text: str) -> None:
        """Write one line."""
        self.write(text + "\n")

    def write(self, text: str) -> int:
        """Write whole lines above the line that is rewritten in place; this is what log lines go through."""
        # Nobody may be left to read, or no room: no reason to stop serving.
        with contextlib.suppress(OSError):
            if self._live:
                self._out.write("\r\033[K")
            self._out.write(text)
            self._rewrite() if self._live else self._out.flush()
        return len(text)

    def flush(self) -> None:
        """Do nothing: every write is flushed."""

    def _rewrite(self) -> None:
        with contextlib.suppress(OSError):
            if self._loading:
                now = time.monotonic()
                names = ", ".join(f"{model} {now - began:.0f} s" for model, began in self._loading.items())
                self._out.write(f"\r\033[K  {self._paint('loading', _DIM)} {names[:100]}")
            self._out.flush()

    def _line(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._out.write(text + "\n")
            self._out.flush()

    def _paint(self, text: str, code: str) -> str:
        return f"{code}{text}{_RESET}" if self._color else text


class LogDisplay:
    """Tells the same as events of the log, where every line must be one (`--log-format json`)."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("tritium")

    def loading(self, model: str, version: str) -> None:
        """Log that a version has begun to load."""
        self._log.info("model_loading", model=model, version=version)

    def loaded(self, row: Row) -> None:
        """Log that a version is ready, or why it is not."""
        if row.state == "READY":
            self._log.info("model_ready", model=row.model, version=row.version, seconds=round(row.seconds, 3))
        else:
            self._log.error("model_failed", model=row.model, version=row.version, reason=row.reason, hint=row.hint)

    def unloaded(self, model: str, version: str) -> None:
        """Log that a version has ended."""
        self._log.info("model_unloaded", model=model, version=version)

    def tick(self) -> None:
        """Do nothing: nobody watches a log."""

    def ready(self, rows: Sequence[Row], endpoints: Sequence[Endpoint]) -> None:
        """Log how many models are served, and where."""
        urls = {endpoint.protocol: endpoint.url for endpoint in endpoints}
        self._log.info("server_ready", models=len(rows), **urls)

    def draining(self, within_s: float) -> None:
        """Log that the server ends."""
        self._log.info("server_draining", within_s=within_s)

    def say(self, text: str) -> None:
        """Log one sentence."""
        if text.strip():
            self._log.info("server", message=text.strip())


def table(rows: Sequence[Row]) -> list[str]:
    """Lay the rows out in columns under a heading.

    >>> table([Row("add_sub", "1", "onnxruntime", "2 x CPU", "READY", 0.12)])[1]
    'add_sub  1        onnxruntime  2 x CPU    READY  0.12 s'
    """
    heading = ("MODEL", "VERSION", "BACKEND", "INSTANCES", "STATE", "LOAD")
    cells = [heading, *((r.model, r.version, r.backend, r.instances, r.state, f"{r.seconds:.2f} s") for r in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heading))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
