"""Alarms to the microsecond, which event loops do not have: uvloop keeps whole milliseconds and would spin below one.

One Linux timerfd an event loop, which the loop watches like a socket; elsewhere alarms are rounded up.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from heapq import heappop, heappush
from typing import Final
from weakref import WeakKeyDictionary

_MONOTONIC: Final = 1
_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE: Final = 1
_SECOND_NS: Final = 1_000_000_000


class _TimerSpec(ctypes.Structure):
    """Struct itimerspec: seconds and nanoseconds of the interval, then of the first ring."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class FineAlarm:
    """A callback that is due at a moment (ns, monotonic), unless it is cancelled."""

    __slots__ = ("callback", "when_ns")

    def __init__(self, when_ns: int, callback: Callable[[], None]) -> None:
        self.when_ns = when_ns
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget it; harmless once it has rung."""
        self.callback = None

    def __lt__(self, other: "FineAlarm") -> bool:
        return self.when_ns < other.when_ns


class FineTimer:
    """The alarms of one event loop; made on that loop."""

    def __init__(self) -> None:
        self._libc = _libc()
        self._fd = int(self._libc.timerfd_create(_MONOTONIC, _NONBLOCK_CLOEXEC))
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._alarms: list[FineAlarm] = []
        asyncio.get_running_loop().add_reader(self._fd, self._ring)

    def __del__(self) -> None:
        os.close(self._fd)

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> FineAlarm:
        """Call back at a moment, or as soon as possible after it."""
        alarm = FineAlarm(when_ns, callback)
        heappush(self._alarms, alarm)
        if self._alarms[0] is alarm:
            self._arm()
        return alarm

    def _arm(self) -> None:
        when_s, when_ns = divmod(self._alarms[0].when_ns, _SECOND_NS)
        spec = _TimerSpec(0, 0, when_s, when_ns)
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None)

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set anew after it had rung
        loop, now_ns = asyncio.get_running_loop(), time.monotonic_ns()
        while self._alarms and self._alarms[0].when_ns <= now_ns:
            alarm = heappop(self._alarms)
            if alarm.callback is not None:
                loop.call_soon(alarm.callback)
        while self._alarms and self._alarms[0].callback is None:
            heappop(self._alarms)
        if self._alarms:
            self._arm()


_timers: "WeakKeyDictionary[asyncio.AbstractEventLoop, FineTimer]" = WeakKeyDictionary()


def fine_timer() -> FineTimer | None:
    """Return the running loop's timer; None where the system has none."""
    if sys.platform != "linux":
        return None
    loop = asyncio.get_running_loop()
    timer = _timers.get(loop)
    if timer is None:
        timer = _timers[loop] = FineTimer()
    return timer
