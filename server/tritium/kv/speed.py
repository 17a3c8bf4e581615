"""How long work of a given size takes, learnt from what was measured: `fixed + size * per_unit`, old values fading."""

from dataclasses import dataclass

_FADE = 0.97
# A measurement so many times off is set aside; as many in a row mean that the world has changed, not that it hiccuped.
_STRAY = 20.0
_STRAYS_BELIEVED = 3


@dataclass(slots=True)
class Line:
    """A line through measured (size, seconds), by least squares with fading weights; neither part falls below 0."""

    weight: float = 0.0
    size: float = 0.0
    seconds: float = 0.0
    square: float = 0.0
    product: float = 0.0
    spread: float = 0.0
    """How far off, relative to itself, the line was of late."""
    strays: int = 0
    """How many measurements in a row were too far off to be taken in."""

    @property
    def known(self) -> bool:
        """Return whether anything was measured."""
        return self.weight > 0

    def learn(self, size: float, seconds: float) -> None:
        """Take in one measurement."""
        if self.known:
            if self._strays_from(size, seconds):
                return
            told = self.at(size)
            off = abs(seconds - told) / told if told > 0 else 0.0
            self.spread += 0.1 * (min(off, 2.0) - self.spread)
        self.weight = self.weight * _FADE + 1
        self.size = self.size * _FADE + size
        self.seconds = self.seconds * _FADE + seconds
        self.square = self.square * _FADE + size * size
        self.product = self.product * _FADE + size * seconds

    def _strays_from(self, size: float, seconds: float) -> bool:
        """Return whether to leave a measurement out; forget all before where several in a row were left out."""
        told = self.at(size)
        if self.weight < 2 or seconds / _STRAY < told < seconds * _STRAY:
            self.strays = 0
            return False
        self.strays += 1
        if self.strays < _STRAYS_BELIEVED:
            return True
        self.weight = self.size = self.seconds = self.square = self.product = self.spread = 0.0
        self.strays = 0
        return False

    @property
    def per_unit(self) -> float:
        """Return the seconds one more unit of size takes."""
        across = self.weight * self.square - self.size * self.size
        slope = 0.0
        if across > 1e-9 * self.weight * self.square:
            slope = (self.weight * self.product - self.size * self.seconds) / across
        through_nothing = self.product / self.square if self.square else 0.0
        return min(slope, through_nothing) if slope > 0 else through_nothing

    @property
    def fixed(self) -> float:
        """Return the seconds that the smallest size takes."""
        if not self.known:
            return 0.0
        return max(0.0, (self.seconds - self.per_unit * self.size) / self.weight)

    def at(self, size: float) -> float:
        """Return how long this size is expected to take."""
        return self.fixed + self.per_unit * size
