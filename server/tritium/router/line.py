"""A straight line through what was seen lately, by least squares: seconds against how much there was to do.

seconds = base + slope * amount        older points count less and less
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fit:
    """The line: seconds for nothing, and seconds for one more."""

    base_s: float
    slope_s: float

    def at(self, amount: float) -> float:
        """Return the seconds that an amount is expected to take."""
        return self.base_s + self.slope_s * amount


@dataclass(slots=True)
class Line:
    """The points, as the sums that the fit needs; `count` is how many of them still weigh."""

    count: float = 0.0
    amounts: float = 0.0
    seconds: float = 0.0
    amounts_squared: float = 0.0
    product: float = 0.0

    def add(self, amount: float, seconds: float) -> None:
        """Add a point."""
        self.count += 1
        self.amounts += amount
        self.seconds += seconds
        self.amounts_squared += amount * amount
        self.product += amount * seconds

    def fade(self, keep: float) -> None:
        """Let all points so far count `keep` times what they did."""
        self.count *= keep
        self.amounts *= keep
        self.seconds *= keep
        self.amounts_squared *= keep
        self.product *= keep

    def fit(self) -> Fit:
        """Return the line; one through nothing where it would begin below, the mean where it would fall.

        There must be a point.
        """
        spread = self.count * self.amounts_squared - self.amounts * self.amounts
        if spread > 0:
            slope_s = (self.count * self.product - self.amounts * self.seconds) / spread
            base_s = (self.seconds - slope_s * self.amounts) / self.count
            if slope_s >= 0 and base_s >= 0:
                return Fit(base_s, slope_s)
            if slope_s >= 0:
                return Fit(0.0, self.product / self.amounts_squared)
        return Fit(self.seconds / self.count, 0.0)
