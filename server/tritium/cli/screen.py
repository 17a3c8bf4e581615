"""What a person sees: loading as it goes, then a table of models and one command to copy for each protocol.

On a terminal the line being worked on is rewritten in place; in a pipe each event is a line of its own. NO_COLOR
and TERM=dumb are obeyed.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

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


class Screen:
    """Writes progress and the ready table to one stream."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty() and os.environ.get("TERM") != "dumb"
        self._color = self._live and "NO_COLOR" not in os.environ
        self._began = time.monotonic()
        self._loading: dict[str, float] = {}

    def loading(self, model: str) -> None:
        """Show that a model has begun to load."""
        self._loading[model] = time.monotonic()
        if self._live:
            self._rewrite()
        else:
            self._line(f"loading model={model}")

    def loaded(self, row: Row) -> None:
        """Show that a version is ready, or why it is not."""
        self._loading.pop(row.model, None)
        if self._live:
            mark = self._paint("ready ", _GREEN) if row.state == "READY" else self._paint("failed", _RED)
            self._clear()
            self._line(
                f"  {mark} {row.model} {row.version} ({row.seconds:.1f} s){'  ' + row.reason if row.reason else ''}"
            )
            self._rewrite()
        else:
            reason = f' reason="{row.reason}"' if row.reason else ""
            self._line(
                f"loaded model={row.model} version={row.version} state={row.state} seconds={row.seconds:.2f}{reason}"
            )

    def ready(self, rows: Sequence[Row], endpoints: Sequence[Endpoint]) -> None:
        """Write the table and the commands."""
        if self._live:
            self._clear()
        self._line("")
        for line in table(rows):
            self._line(line)
        broken = [row for row in rows if row.reason]
        for row in broken:
            self._line(f"\n{self._paint(row.model, _RED)} is not ready:\n  {row.failure}")
        self._line("")
        for endpoint in endpoints:
            self._line(f"{endpoint.protocol:8} {self._paint(endpoint.url, _BOLD)}")
            if endpoint.command:
                self._line(f"         {self._paint(endpoint.command, _DIM)}")
        self._line(f"\nReady in {time.monotonic() - self._began:.1f} s. Ctrl-C drains and stops.")

    def say(self, text: str) -> None:
        """Write one line."""
        if self._live:
            self._clear()
        self._line(text)

    def _rewrite(self) -> None:
        if self._loading:
            names = ", ".join(self._loading)
            self._out.write(f"\r\033[K  {self._paint('loading', _DIM)} {names[:100]}")
            self._out.flush()

    def _clear(self) -> None:
        self._out.write("\r\033[K")

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def _paint(self, text: str, code: str) -> str:
        return f"{code}{text}{_RESET}" if self._color else text


def table(rows: Sequence[Row]) -> list[str]:
    """Lay the rows out in columns under a heading.

    >>> table([Row("add_sub", "1", "onnxruntime", "2 x CPU", "READY", 0.12)])[1]
    'add_sub  1        onnxruntime  2 x CPU    READY  0.12 s'
    """
    heading = ("MODEL", "VERSION", "BACKEND", "INSTANCES", "STATE", "LOAD")
    cells = [heading, *((r.model, r.version, r.backend, r.instances, r.state, f"{r.seconds:.2f} s") for r in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heading))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
