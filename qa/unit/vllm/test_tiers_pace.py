"""What fetches cost beside their bytes, and tiers that were late."""

from tritium.backends.vllm.tiers.pace import Pace
from tritium.kv.block import Tier


class Clock:
    """Time that is told."""

    now_s = 0.0

    def __call__(self):
        return self.now_s


def fetch(pace, clock, *, load_s, whole_s, worth_s=1.0, beside=()):
    pace.began("a", {Tier.DISK}, worth_s)
    if beside:
        pace.stepped(beside)
    pace.loaded("a", load_s)
    clock.now_s += whole_s
    pace.stepped(["a"])


def test_learns_what_the_engine_takes():
    """The middle of what was seen of requests that were alone, once it was seen three times."""
    pace = Pace(clock := Clock())
    for over_s, told_s in ((0.02, 0.0), (0.03, 0.0), (0.9, 0.03), (0.02, 0.025)):
        fetch(pace, clock, load_s=0.1, whole_s=0.1 + over_s)
        assert abs(pace.handover_s - told_s) < 1e-9


def test_others_work_is_not_the_engines():
    """A request beside which others ran says nothing of what the engine takes."""
    pace = Pace(clock := Clock())
    for _ in range(9):
        fetch(pace, clock, load_s=0.1, whole_s=3.0, beside=["b"])
    assert pace.handover_s == 0.0


def test_a_late_tier_rests_longer_each_time():
    """One second, two, four, up to a minute; one good fetch and it is trusted again."""
    pace = Pace(clock := Clock())
    for rest_s in (1, 2, 4, 8, 16, 32, 60, 60):
        fetch(pace, clock, load_s=1.5, whole_s=0.0)
        clock.now_s += rest_s - 0.5
        assert pace.rests(Tier.DISK)
        clock.now_s += 1
        assert not pace.rests(Tier.DISK)
    assert not pace.rests(Tier.HOST)
    fetch(pace, clock, load_s=0.5, whole_s=0.0)
    fetch(pace, clock, load_s=1.5, whole_s=0.0)
    clock.now_s += 1.5
    assert not pace.rests(Tier.DISK)


def test_what_was_forgotten_says_nothing():
    """A request that was aborted while it waited."""
    pace = Pace()
    pace.began("a", {Tier.HOST}, 0.0)
    pace.forget("a")
    pace.loaded("a", 5.0)
    pace.stepped(["a"])
    assert not pace.rests(Tier.HOST)
