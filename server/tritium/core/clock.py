"""Time, as schedulers are given it, so that tests can give them another.

Decisions take moments as plain integers; only the shells around them hold a clock.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from tritium.core.fine_timer import fine_timer

_MILLISECOND_NS: Final = 1_000_000
FINE_NS: Final = 3 * _MILLISECOND_NS
"""Alarms that are nearer need a finer timer than the loop's."""


class Alarm(Protocol):
    """A callback that is due."""

    def cancel(self) -> None:
        """Forget it; harmless once it has rung."""
        ...


class Clock(Protocol):
    """What a shell may ask of time."""

    def now_ns(self) -> int:
        """Return a monotonic moment."""
        ...

    def wall_ms(self) -> int:
        """Return milliseconds since 1970."""
        ...

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Alarm:
        """Call back on the event loop at a monotonic moment, or as soon as possible after it."""
        ...


class SystemClock:
    """The clock of the machine.

    uvloop keeps timers in whole milliseconds and rounds: an alarm that is further away may ring up to half a
    millisecond early, so whoever sets one looks at the time again when it rings.
    """

    now_ns = staticmethod(time.monotonic_ns)

    def wall_ms(self) -> int:
        """Return milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Alarm:
        """Call back on the running event loop."""
        delay_ns = max(0, when_ns - time.monotonic_ns())
        if delay_ns < FINE_NS and (timer := fine_timer()) is not None:
            return timer.call_at(when_ns, callback)
        return asyncio.get_running_loop().call_later(max(delay_ns, _MILLISECOND_NS) / 1e9, callback)


SYSTEM_CLOCK: Final = SystemClock()
