"""Quantiles are as exact as they were asked for, of the last minute, whatever the order of the numbers."""

import math
import random

import pytest

from tritium.core.quantiles import WINDOW_NS, RecentQuantiles, Sketch, Target

TARGETS = (Target(0.5, 0.05), Target(0.9, 0.01), Target(0.95, 0.001), Target(0.99, 0.001), Target(0.999, 0.001))


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled", "equal"])
@pytest.mark.parametrize("count", [1, 2, 7, 499, 20_000])
def test_ranks_are_within_their_errors(order: str, count: int) -> None:
    """The rank of what is answered differs from the asked one by no more than the error (and one number)."""
    numbers = [float(n) for n in range(count)]
    if order == "descending":
        numbers.reverse()
    elif order == "shuffled":
        random.Random(7).shuffle(numbers)
    elif order == "equal":
        numbers = [5.0] * count
    recent = RecentQuantiles(TARGETS, 0)
    for number in numbers:
        recent.observe(number, 0)
    ranked = sorted(numbers)
    for target, value in zip(TARGETS, recent.values(0), strict=True):
        slack = target.error * count + 1
        low = ranked[max(0, math.floor(target.quantile * count - slack) - 1)]
        high = ranked[min(count - 1, math.ceil(target.quantile * count + slack))]
        assert low <= value <= high
    assert (recent.count, recent.sum) == (count, sum(numbers))


def test_little_is_kept() -> None:
    """A hundred thousand numbers leave a small part of them."""
    sketch = Sketch(TARGETS, [], 0)
    shuffled = random.Random(3)
    for _ in range(200):
        sketch = sketch.merged(Sketch.of(TARGETS, sorted(shuffled.random() for _ in range(500))))
    assert sketch.count == 100_000
    assert sum(entry.stands_for for entry in sketch.entries) == 100_000
    assert len(sketch.entries) < 2_000


def test_one_number_is_every_quantile_and_none_is_not_a_number() -> None:
    """What Prometheus clients show of a summary that was just made, and of one with a single observation."""
    recent = RecentQuantiles(TARGETS, 0)
    assert all(math.isnan(value) for value in recent.values(0))
    recent.observe(209_663.0, 0)
    assert recent.values(0) == [209_663.0] * len(TARGETS)


def test_numbers_count_for_a_minute() -> None:
    """After it they are in the count and the sum alone."""
    recent = RecentQuantiles((Target(0.5, 0.05),), 0)
    recent.observe(1.0, 0)
    recent.observe(9.0, WINDOW_NS // 2)
    assert recent.values(WINDOW_NS - 1) == [1.0]
    assert recent.values(WINDOW_NS) == [9.0]
    assert math.isnan(recent.values(2 * WINDOW_NS)[0])
    assert (recent.count, recent.sum) == (2, 10.0)
    recent.observe(3.0, 1000 * WINDOW_NS)
    assert recent.values(1000 * WINDOW_NS) == [3.0]


@pytest.mark.parametrize("target", [Target(0.0, 0.1), Target(1.0, 0.1), Target(0.5, 0.0)])
def test_the_ends_and_no_error_are_targets_too(target: Target) -> None:
    """A quantile of 0 or 1, or one that may not be wrong at all, is answered."""
    recent = RecentQuantiles((target,), 0)
    for number in range(2_001):
        recent.observe(float(number), 0)
    wanted = 2_000 * target.quantile
    assert abs(recent.values(0)[0] - wanted) <= target.error * 2_001 + 1
