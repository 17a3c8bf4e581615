"""Whether loading pays, decided from what loads and prefills were seen to take."""

from pathlib import Path

import pytest
from qa.unit.kv.blocks import BLOCK, PATIENCE_S, keys, save

from tritium.kv.advice import Advisor
from tritium.kv.block import Tier
from tritium.kv.settings import DiskSettings, StoreSettings
from tritium.kv.speed import Line
from tritium.kv.store import BlockStore

BLOCK_BYTES, BLOCK_TOKENS = 1 << 20, 16
MOST_LATER = 1.1


def advisor(prefill_s_per_token: float = 1e-3, **gb_s: float) -> Advisor:
    """Return one that has seen prefills, and loads from tiers at these speeds."""
    seen = Advisor(BLOCK_BYTES, BLOCK_TOKENS)
    for tokens in (100, 400, 1000):
        seen.learn_prefill(tokens, tokens * prefill_s_per_token)
    for name, speed in gb_s.items():
        for blocks in (1, 10, 100):
            seen.learn_load(Tier(name), blocks * BLOCK_BYTES, 0.001 + blocks * BLOCK_BYTES / (speed * 1e9))
    return seen


def test_a_line_is_learnt() -> None:
    """What a size takes, from sizes that were measured; it is never below what nothing takes."""
    line = Line()
    for size in (10, 50, 90):
        line.learn(size, 0.5 + 0.1 * size)
    assert line.at(70) == pytest.approx(7.5)
    assert line.fixed == pytest.approx(0.5)


def test_a_line_follows_what_changes() -> None:
    """Old measurements fade."""
    line = Line()
    for seconds in (1.0,) * 50 + (3.0,) * 150:
        line.learn(10, seconds)
    assert line.at(10) == pytest.approx(3.0, rel=0.05)


def test_a_hiccup_is_not_believed_and_a_change_is() -> None:
    """One measurement far off changes nothing; several in a row begin a new line."""
    line = Line()
    for size in (10, 50, 90):
        line.learn(size, 0.1 * size)
    line.learn(50, 500.0)
    assert line.at(50) == pytest.approx(5.0)
    for _ in range(4):
        line.learn(50, 500.0)
    assert line.at(50) == pytest.approx(500.0)


def test_fast_tiers_are_loaded() -> None:
    """Host memory at GB/s beats a millisecond a token, and the reason names both times."""
    advice = advisor(host=10).advise(1000, [Tier.HOST] * 60)
    assert advice.blocks == 60
    assert advice.expected_s < advice.recompute_s
    assert "60 from host" in advice.because


def test_slow_tiers_are_computed_again() -> None:
    """A disk slower than the processor is left alone: the report of 40 s against 0.9 s."""
    slow = advisor(prefill_s_per_token=1e-3, disk=0.001)
    advice = slow.advise(900, [Tier.DISK] * 50)
    assert advice.blocks == 0
    assert "50 blocks would take" in advice.because


def test_the_fast_part_is_loaded_and_the_rest_computed() -> None:
    """Where the first blocks lie on the host and the others on a slow disk."""
    advice = advisor(host=10, disk=0.001).advise(1000, [Tier.HOST] * 30 + [Tier.DISK] * 30)
    assert advice.blocks == 30


def test_an_unknown_tier_is_not_loaded_from() -> None:
    """No prompt pays for finding out how slow it is."""
    advice = advisor().advise(1000, [Tier.OBJECT] * 60)
    assert not advice.onboard
    assert advice.because == "object not measured yet"


@pytest.mark.parametrize("after", ["saving", "restart"])
def test_the_store_measures_its_tiers_itself(tmp_path: Path, after: str) -> None:
    """Once it holds anything, and when it opens over what it held."""
    settings = StoreSettings(BLOCK, disk=DiskSettings(40 * 8192, (tmp_path,), min_uses=1))
    with BlockStore(settings, BLOCK_TOKENS) as store:
        assert not store.advisor.loads[Tier.DISK].known
        save(store, keys(6))
        assert store.settle(PATIENCE_S)
        assert store.advisor.loads[Tier.DISK].known
    if after == "restart":
        with BlockStore(settings, BLOCK_TOKENS) as store:
            assert store.settle(PATIENCE_S)
            assert store.advisor.loads[Tier.DISK].known


def test_a_tier_that_was_slow_is_measured_again(tmp_path: Path) -> None:
    """So that one that recovers is loaded from again, at no prompt's cost."""
    disk = DiskSettings(40 * 8192, (tmp_path,), min_uses=1)
    with BlockStore(StoreSettings(BLOCK, disk=disk, measure_every_s=0), BLOCK_TOKENS) as store:
        save(store, keys(6))
        store.learn_prefill(1000, 1.0)
        for _ in range(100):
            store.advisor.learn_load(Tier.DISK, BLOCK, 1000.0)
        held = store.hold(keys(6))
        assert not store.advise(1000, held).onboard
        for _ in range(4):
            store.advise(1000, held)
            assert store.settle(PATIENCE_S)
        assert store.advise(1000, held).onboard


@pytest.mark.parametrize("speed", [0.0005, 0.005, 0.05, 0.5, 5])
@pytest.mark.parametrize("held", [1, 8, 60])
def test_never_much_later_than_computing(speed: float, held: int) -> None:
    """With times that follow the line, what is advised takes at most a tenth more than computing the prompt."""
    seen = advisor(disk=speed)
    for _ in range(200):
        advice = seen.advise(1000, [Tier.DISK] * held)
        load_s = 0.001 + advice.blocks * BLOCK_BYTES / (speed * 1e9) if advice.blocks else 0
        assert load_s + (1000 - advice.blocks * BLOCK_TOKENS) * 1e-3 <= MOST_LATER


def test_tiers_are_asked_by_what_they_take() -> None:
    """A disk of one's own that is faster than a peer goes first; a tier that was not measured keeps its place."""
    assert advisor(peer=5, disk=1).fastest_first() == [Tier.HOST, Tier.PEER, Tier.DISK, Tier.OBJECT]
    assert advisor(peer=1, disk=5).fastest_first() == [Tier.HOST, Tier.DISK, Tier.PEER, Tier.OBJECT]
    assert advisor().fastest_first() == list(Tier)


def test_without_a_prefill_seen_what_is_held_is_loaded() -> None:
    """There is nothing to compare with yet; and nothing held is nothing to load."""
    fresh = Advisor(BLOCK_BYTES, BLOCK_TOKENS)
    assert fresh.advise(100, [Tier.HOST] * 3).blocks == 3
    assert not fresh.advise(100, []).onboard
