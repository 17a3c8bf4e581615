"""A bucket that fills at a steady pace: so much may be taken a minute, and what was saved up at once."""

import math

_MINUTE_S = 60.0


class Bucket:
    """Holds up to a minute's worth; may go below nothing when what something costs is known only afterwards."""

    __slots__ = ("_at_s", "_level", "a_minute")

    def __init__(self, a_minute: int, now_s: float) -> None:
        self.a_minute = a_minute
        self._level = float(a_minute)
        self._at_s = now_s

    def level(self, now_s: float) -> float:
        """Return how much may be taken now; below zero, what is owed."""
        elapsed_s = max(0.0, now_s - self._at_s)
        self._level = min(float(self.a_minute), self._level + elapsed_s * self.a_minute / _MINUTE_S)
        self._at_s = now_s
        return self._level

    def take(self, amount: float, now_s: float) -> None:
        """Take something, whether or not it is there."""
        self._level = self.level(now_s) - amount

    def seconds_until(self, amount: float, now_s: float) -> int:
        """Return in how many whole seconds so much is there; 0 where it is now."""
        lacking = amount - self.level(now_s)
        return max(0, math.ceil(lacking * _MINUTE_S / self.a_minute))

    def seconds_until_full(self, now_s: float) -> float:
        """Return when the bucket is full again if nothing more is taken."""
        return (self.a_minute - self.level(now_s)) * _MINUTE_S / self.a_minute
