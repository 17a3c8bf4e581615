"""Fronts that follow the caches of real worker processes, over a connection that loses what the test takes away."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tritium.cluster.following import CacheFollower
from tritium.cluster.frames import CacheChanged, CacheDump, Emptied, Entered, Left
from tritium.router.dump import Dump, decode, encode
from tritium.router.router import Router
from tritium.router.tiers import Tier

PROMPT = list(range(40))


class Lossy:
    """Stands between a worker and its pool, and swallows changes of its cache while it is told to."""

    def __init__(self, fleet, worker="worker_0"):
        self.follower = fleet.workers.followers[worker]
        self.swallow = False
        self.swallowed = 0
        self._hear = self.follower.hear
        self._heal = self.follower.heal
        self.heard = asyncio.Event()
        self.healed = asyncio.Event()
        self.follower.hear = self.hear
        self.follower.heal = self.heal

    def hear(self, changed):
        assert isinstance(changed, CacheChanged)
        if self.swallow:
            self.swallowed += 1
        else:
            self._hear(changed)
        self.heard.set()

    def heal(self, dump):
        assert isinstance(dump, CacheDump)
        self._heal(dump)
        if not self.follower.behind:
            self.healed.set()


async def generate(fleet, collector, request_for, tokens):
    sink = collector()
    fleet.generate(request_for(tokens), sink)
    await sink.end(60)
    assert sink.error is None


async def test_lost_changes_are_made_up_for(fleet_of, collector, request_for):
    """A front that missed what a worker stored knows of it once the next change has shown the gap."""
    async with fleet_of("workers=1") as fleet:
        lossy = Lossy(fleet)
        lossy.swallow = True
        await generate(fleet, collector, request_for, PROMPT)
        await asyncio.wait_for(lossy.heard.wait(), 60)
        assert lossy.swallowed
        assert fleet.explain(PROMPT).overlap_blocks == 0
        lossy.swallow = False
        lossy.healed.clear()
        await generate(fleet, collector, request_for, [7] * 8)
        await asyncio.wait_for(lossy.healed.wait(), 60)
        assert fleet.explain(PROMPT).overlap_blocks == len(PROMPT) // 4
        assert fleet.explain([7] * 8).overlap_blocks == 2
        assert lossy.follower.lost == lossy.swallowed
        names = {name for name, labels, value in fleet.metrics() if value and "worker" in labels}
        assert {"tritium_cache_changes_lost_total", "tritium_cache_dumps_total"} <= names


async def test_what_was_lost_last_is_made_up_for(fleet_of, collector, request_for, monkeypatch):
    """Where no change follows a lost one, the number that the worker gives now and then shows the gap."""
    monkeypatch.setattr("tritium.cluster.following.GRACE_S", 0.01)
    async with fleet_of("workers=1") as fleet:
        lossy = Lossy(fleet)
        lossy.swallow = True
        await generate(fleet, collector, request_for, PROMPT)
        lossy.healed.clear()
        await asyncio.wait_for(lossy.healed.wait(), 60)
        assert fleet.explain(PROMPT).overlap_blocks == len(PROMPT) // 4


@pytest.mark.parametrize("late", [0, 1])
async def test_a_late_router_gets_all_of_it(fleet_of, collector, request_for, late):
    """A router that begins in the midst is brought to what the worker holds."""
    async with fleet_of("workers=1") as fleet:
        await generate(fleet, collector, request_for, PROMPT)
        lossy = Lossy(fleet)
        router = Router(4)
        router.add("worker_0", capacity_blocks=1000, max_sequences=8)
        lossy.follower = CacheFollower(router, "worker_0", fleet.workers.followers["worker_0"]._ask)
        lossy._hear, lossy._heal = lossy.follower.hear, lossy.follower.heal
        if late:
            await generate(fleet, collector, request_for, [9] * 12)
        await asyncio.wait_for(lossy.healed.wait(), 60)
        assert router.choose(router.prompt(PROMPT)).overlap_blocks == len(PROMPT) // 4
        assert router.index.tiers[Tier.DEVICE].held_by(0) == len(PROMPT) // 4 + 3 * late


def test_a_tier_that_only_newer_workers_have():
    """Blocks in it are counted, told of once and nobody's; what else the worker tells counts as ever."""
    router = Router(4)
    router.add("w", capacity_blocks=100, max_sequences=8)
    follower = CacheFollower(router, "w", lambda: None)
    dump = encode(Dump(4, {Tier.DEVICE: {1: 1}, Tier.HOST: {2: 2, 3: 3}}, 0))
    follower.heal(CacheDump(dump))
    with capture_logs() as told:
        follower.hear(CacheChanged(1, [Entered([7, 8], "moon"), Entered([5]), Left([7], "moon"), Left([1])]))
        follower.hear(CacheChanged(2, [Entered([9], "moon")]))
    assert follower.strange == 3
    assert [line["event"] for line in told] == ["cache_tier_unknown"]
    number = router.load_of("w").number
    assert {tier: held for tier, index in router.index.tiers.items() if (held := index.held_by(number))} == {
        Tier.DEVICE: 1,
        Tier.HOST: 2,
    }
    follower.hear(CacheChanged(3, [Emptied()]))
    assert len(router.index) == 0


def test_a_dump_with_a_tier_that_only_newer_workers_have(monkeypatch):
    """What is in tiers that are known here is read, and the rest counted."""
    dump = encode(Dump(4, {Tier.DEVICE: {1: 1}, Tier.DISK: {2: 2, 3: 3}}, 7))
    monkeypatch.setattr("tritium.router.dump._TIERS", (Tier.DEVICE, Tier.HOST))
    read = decode(dump)
    assert (read.tiers, read.strange, read.last_event) == ({Tier.DEVICE: {1: 1}}, 2, 7)
