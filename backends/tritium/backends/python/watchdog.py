"""Notices a model that does not go on: a process that was stopped, an execution that takes longer than it may.

    IDLE --an execution begins--> WATCHING --nothing runs--> IDLE
                                   |  |  ^
                                   |  |  +-- goes on: frozen is False again
                                   |  +-- the process is stopped: frozen
                                   +-- one execution lasts longer than the deadline: overdue, once

It looks every few hundred milliseconds while something runs, so an execution costs nothing and an idle model is not
looked at.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from tritium.core.errors import InvalidArgument

LOOK_S = 0.5
"""Between two looks; a shorter deadline is looked at four times."""
SETTING = "execution-timeout-seconds"
PARAMETER = "EXECUTION_TIMEOUT_SECONDS"


class Watched(Protocol):
    """What is looked at."""

    @property
    def oldest(self) -> int:
        """Return the number of the execution that was begun first of those that run, 0 where nothing runs."""
        ...

    @property
    def stopped(self) -> bool:
        """Tell whether the process was stopped by a signal."""
        ...

    def freeze(self, *, frozen: bool) -> None:
        """Take note that the process stands still, or goes on."""
        ...

    def overdue(self, deadline_s: float) -> None:
        """Give up on the execution that takes too long."""
        ...


class Watchdog:
    """Looks after one instance; `deadline_s` 0 means that an execution may take for ever."""

    def __init__(self, watched: Watched, deadline_s: float) -> None:
        self._watched = watched
        self._deadline_s = deadline_s
        self._look_s = min(LOOK_S, deadline_s / 4) if deadline_s else LOOK_S
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._oldest = 0
        self._since_s = 0.0
        self._frozen = False

    def watch(self) -> None:
        """Look from now on, if not already."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._look_s, self._look)

    def rest(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._oldest = 0
        self._frozen = False

    def _look(self) -> None:
        self._timer = None
        oldest = self._watched.oldest
        standing = bool(oldest) and oldest == self._oldest
        if not standing:
            self._oldest, self._since_s = oldest, self._loop.time()
        if standing or self._frozen:
            self._see_whether_stopped()
        if standing and self._deadline_s and self._loop.time() - self._since_s >= self._deadline_s:
            self._oldest = 0
            self._watched.overdue(self._deadline_s)
        elif oldest or self._frozen:
            self.watch()

    def _see_whether_stopped(self) -> None:
        stopped = self._watched.stopped
        if stopped is not self._frozen:
            self._frozen = stopped
            self._watched.freeze(frozen=stopped)


def deadline_of(parameter: str, settings: Mapping[str, str]) -> float:
    """Return the deadline in seconds: the model's own parameter, or --backend-config=python,execution-timeout-seconds.

    Raises:
        InvalidArgument: not a number of seconds.
    """
    text = parameter or settings.get(SETTING, "0")
    try:
        deadline_s = float(text)
    except ValueError:
        deadline_s = -1.0
    if not 0 <= deadline_s < float("inf"):
        where = PARAMETER if parameter else f"--backend-config=python,{SETTING}"
        raise InvalidArgument(f"{where} '{text}' is not a number of seconds", hint="for example 30; 0 is for ever")
    return deadline_s
