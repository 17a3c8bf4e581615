"""Bounds what a peer may have us do for nothing by frames that cost it little (CVE-2019-9512 and on, CVE-2023-44487).

Two budgets a connection. Each refills with time, and with every call that the peer lets come to its end; who only
spends is told ENHANCE_YOUR_CALM and cut off.
"""

from collections.abc import Callable

from tritium.wire.h2.frames import Code, ConnectionFault

CONTROL_BURST = 1000
CONTROL_PER_S = 100
RESET_BURST = 500
RESET_PER_S = 50
RAPID_S = 0.1
"""A call reset sooner than this was hardly meant; later ones, such as passed deadlines, are not counted."""


class Budget:
    """A token bucket."""

    __slots__ = ("_burst", "_clock", "_left", "_per_s", "_since", "_what")

    def __init__(self, what: str, burst: int, per_s: int, clock: Callable[[], float]) -> None:
        self._what = what
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._left = float(burst)
        self._since = clock()

    def spend(self) -> None:
        """Take one.

        Raises:
            ConnectionFault: There is none left.
        """
        self._left -= 1
        if self._left < 0:
            now = self._clock()
            self._left = min(self._left + (now - self._since) * self._per_s, self._burst)
            self._since = now
            if self._left < 0:
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"too many {self._what}")

    def refund(self) -> None:
        """Put one back."""
        if self._left < self._burst:
            self._left += 1
