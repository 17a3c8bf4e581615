"""Gives up requests that get nowhere though their worker lives: an engine may lose one, or never come to it.

    look -> same mark as at the last looks? -> look ...        the same for so many looks in a row -> overdue

Looks are counted, as beats are in `cluster.pulse`, and a request is looked at a few times in its bound: its tokens
cost nothing here.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

LOOKS = 4
"""So many looks without a change make the time after which a request is overdue."""

Request = TypeVar("Request", bound=Hashable)


class Patience(Generic[Request]):
    """Watches requests while there are any.

    `marks` gives those that a worker has now, each with what changes whenever it gets on; `overdue` is called for each
    that got nowhere for `within_s`, and may end it. Without a bound (0) nothing is watched.
    """

    def __init__(
        self,
        within_s: float,
        *,
        marks: Callable[[], Iterable[tuple[Request, Hashable]]],
        overdue: Callable[[Request], None],
    ) -> None:
        self._look_s = within_s / LOOKS
        self._marks = marks
        self._overdue = overdue
        self._seen: Mapping[Request, tuple[Hashable, int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """See to it that somebody looks."""
        if self._timer is None and self._look_s:
            self._timer = asyncio.get_running_loop().call_later(self._look_s, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        seen: dict[Request, tuple[Hashable, int]] = {}
        for request, mark in self._marks():
            before, looks = self._seen.get(request, (None, 0))
            seen[request] = (mark, looks + 1 if mark == before else 0)
        self._seen = seen
        if seen:
            self.watch()
        for request, (_, looks) in seen.items():
            if looks >= LOOKS:
                self._overdue(request)
