"""Notices a worker that is alive and does nothing any more: stopped, or stuck in a call that never returns.

    beat -> ping -> anything heard? -> beat ...            nothing heard for a whole beat           -> on_missed
                                                           for so many beats in a row               -> on_silent, once

Beats are counted, not seconds: a server that was itself held up sees one late beat, and what its workers sent
meanwhile is heard before the next.
"""

import asyncio
from collections.abc import Callable

BEATS = 4
"""So many beats without a sign of life make the time after which a worker is given up."""


class Pulse:
    """Watches one peer from `start` to `stop`. Whatever the peer sends is reported to `heard`.

    `on_missed` is told how many beats have gone by without a sign of life, and 0 when there is one again.
    """

    def __init__(
        self,
        silent_s: float,
        *,
        ping: Callable[[], None],
        on_silent: Callable[[], None],
        on_missed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._beat_s = silent_s / BEATS
        self._ping = ping
        self._on_silent = on_silent
        self._on_missed = on_missed
        self._timer: asyncio.TimerHandle | None = None
        self._missed = 0

    def start(self) -> None:
        """Begin to watch; without a time to be silent in (0), never."""
        self.stop()
        self._missed = 0
        if self._beat_s:
            self._ping()
            self._timer = asyncio.get_running_loop().call_later(self._beat_s, self._beat)

    def heard(self) -> None:
        """Note a sign of life."""
        if self._missed > 1:
            self._on_missed(0)
        self._missed = 0

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        if self._missed:
            self._on_missed(self._missed)
        self._missed += 1
        if self._missed > BEATS:
            self._timer = None
            self._on_silent()
            return
        self._ping()
        self._timer = asyncio.get_running_loop().call_later(self._beat_s, self._beat)
