"""Changes of caches by NATS: to fronts that are there, late, away for a while, and without NATS itself."""

import asyncio
import socket
import sys
from contextlib import asynccontextmanager

import pytest
import structlog
from qa.unit.cluster.nats_server import NatsServer
from qa.unit.cluster.remote_fleet import until

from tritium.backends.engine import BlocksRemoved, BlocksStored
from tritium.cluster.events import link, publisher
from tritium.cluster.events.place import NatsPlace, parse_events
from tritium.cluster.events.publisher import EventPublisher
from tritium.cluster.events.subscriber import EventSubscriber
from tritium.cluster.following import CacheFollower
from tritium.cluster.frames import CacheDump
from tritium.cluster.mirror import CacheMirror
from tritium.core.errors import InvalidArgument
from tritium.router.router import Router
from tritium.router.tiers import Tier

BLOCK, RUN = 2, "r1"

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # sockets of a server that was killed


@pytest.fixture
async def nats():
    server = NatsServer()
    await server.start()
    yield server
    server.close()


class Worker:
    """A worker's record of its cache, and what publishes it."""

    def __init__(self, address, namespace):
        self.mirror = CacheMirror(BLOCK, 10_000)
        self.events = EventPublisher(parse_events(address), namespace, RUN)
        self.events.start()
        self.names = 0

    def store(self, count=1):
        for _ in range(count):
            self.names += 1
            self.tell(BlocksStored([self.names], None, [self.names, 7], BLOCK))

    def remove(self, name):
        self.tell(BlocksRemoved([name]))

    def tell(self, event):
        self.events.publish(self.mirror.take([event]))

    def holds(self):
        return set(self.mirror._index.device.dump(0).values())


class Front:
    """A router that follows the worker by NATS, and asks it for dumps by other means."""

    def __init__(self, address, namespace, worker):
        self.router = Router(BLOCK)
        self.router.add("w", capacity_blocks=10_000, max_sequences=1)
        self.worker = worker
        self.asked = 0
        self.changed = asyncio.Event()
        self.follower = CacheFollower(self.router, "w", self.ask)
        self.events = EventSubscriber(parse_events(address), [namespace], "front")
        self.events.follow(RUN, self.hear)
        self.events.start()

    def ask(self):
        self.asked += 1
        asyncio.get_running_loop().call_soon(lambda: self.heal(CacheDump(self.worker.mirror.dump())))

    def heal(self, dump):
        self.follower.heal(dump)
        self.changed.set()

    def hear(self, changed):
        self.follower.hear(changed)
        self.changed.set()

    def holds(self):
        return set(self.router.index.tiers[Tier.DEVICE].dump(0))

    async def equal(self):
        """Wait until it knows what the worker holds."""
        async with asyncio.timeout(60):
            while self.holds() != self.worker.holds() or self.follower.behind:
                self.changed.clear()
                await self.changed.wait()

    def metrics(self):
        return {name: value for name, _, value in self.events.metrics()}


@asynccontextmanager
async def cluster(nats, fronts=1, namespace="test"):
    worker = Worker(nats.address, namespace)
    joined = [Front(nats.address, namespace, worker) for _ in range(fronts)]
    try:
        async with asyncio.timeout(60):
            for member in (worker, *joined):
                await member.events.link.up.wait()
        yield worker, joined
    finally:
        for member in (worker, *joined):
            await member.events.close()


async def until_down(*members):
    async with asyncio.timeout(60):
        while any(member.events.link.up.is_set() for member in members):  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.01)


async def until_up(*members):
    async with asyncio.timeout(60):
        for member in members:
            await member.events.link.up.wait()


@pytest.mark.server("nats-server")
async def test_every_front_hears_every_change(nats):
    """A worker tells once, and all fronts know; a late one asks for what was before."""
    async with cluster(nats, fronts=2, namespace="a.b c") as (worker, fronts):
        worker.store(50)
        worker.remove(7)
        for front in fronts:
            await front.equal()
            assert front.metrics() == {
                "tritium_events_connected": 1,
                "tritium_events_outages_total": 0,
                "tritium_events_received_total": 51,
                "tritium_events_unreadable_total": 0,
            }
        late = Front(nats.address, "a.b c", worker)
        try:
            await late.equal()
            await until_up(late)
            worker.store()
            await late.equal()
        finally:
            await late.events.close()
        assert worker.events.metrics()["tritium_worker_events_published_total"] == 52


@pytest.mark.server("nats-server")
async def test_what_a_front_missed_is_told_again(nats):
    """A front whose connection was lost reads what came meanwhile from the stream, and asks the worker for nothing."""
    async with cluster(nats) as (worker, [front]):
        worker.store(3)
        await front.equal()
        asked = front.asked
        connect = front.events.link._connect
        away = asyncio.Event()

        async def later(closed):
            await away.wait()
            return await connect(closed)

        front.events.link._connect = later
        await front.events.link.renew()
        await until_down(front)
        worker.store(20)
        worker.remove(2)
        async with asyncio.timeout(60):
            while worker.events.published < 24:  # noqa: ASYNC110  nothing tells of it
                await asyncio.sleep(0.01)
        assert len(front.holds()) == 3, "what was known stays known"
        away.set()
        await front.equal()
        assert front.follower.lost == 0
        assert front.asked == asked


@pytest.mark.server("nats-server")
@pytest.mark.parametrize("wiped", [False, True])
async def test_nats_is_killed_and_comes_back(nats, wiped):
    """Without NATS what is known stays in use; when it is there again, with its store or without, all is as it was."""
    async with cluster(nats) as (worker, [front]):
        worker.store(10)
        await front.equal()
        known = front.holds()
        nats.kill()
        await until_down(worker, front)
        worker.store(20)
        worker.remove(3)
        assert front.holds() == known
        assert front.metrics()["tritium_events_connected"] == 0
        if wiped:
            nats.wipe()
        await nats.start()
        await until_up(worker, front)
        # What the worker kept came before the front was there again, or after; the next change shows what is missing.
        worker.store()
        await front.equal()
        assert front.metrics()["tritium_events_outages_total"] == 1


@pytest.mark.server("nats-server")
async def test_what_nobody_kept_is_asked_of_the_worker(nats, monkeypatch):
    """Of a long outage the worker keeps only so much; the rest is missing by its number, and a dump has it."""
    monkeypatch.setattr(publisher, "MOST_QUEUED", 5)
    async with cluster(nats) as (worker, [front]):
        worker.store(3)
        await front.equal()
        asked = front.asked
        nats.kill()
        await until_down(worker, front)
        worker.store(20)
        await nats.start()
        await until_up(worker, front)
        worker.store()
        await front.equal()
        assert front.asked > asked
        assert front.follower.lost
        assert worker.events.metrics()["tritium_worker_events_dropped_total"] >= 15


@pytest.mark.server("nats-server")
async def test_nats_that_comes_later(nats, monkeypatch):
    """Worker and front start without NATS, say so once, and are brought together when it is there."""
    monkeypatch.setattr(link, "LONGEST_AGAIN_S", 0.2)
    nats.kill()
    worker = Worker(nats.address, "test")
    front = Front(nats.address, "test", worker)
    try:
        worker.store(5)
        await front.equal()  # by the dump alone
        await nats.start()
        await until_up(worker, front)
        worker.store()
        await front.equal()
    finally:
        await worker.events.close()
        await front.events.close()


async def test_a_server_that_is_not_there_is_told_of_at_once():
    """A wrong address is in the log after the first attempt, not after the many that nats-py makes by itself."""
    with socket.socket() as taken, structlog.testing.capture_logs() as lines:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        nobody = link.NatsLink(
            parse_events(f"nats://127.0.0.1:{taken.getsockname()[1]}"), "test", lambda _: asyncio.sleep(0)
        )
        nobody.start()
        await until(lambda: any(line["event"] == "events_unavailable" for line in lines))
        await nobody.close()


def test_the_setting():
    """Local is the default; addresses are checked, and told without their passwords."""
    assert parse_events("") is None
    assert parse_events("local") is None
    place = parse_events("nats://me:secret@a:4333, tls://b")
    assert place == NatsPlace(("nats://me:secret@a:4333", "tls://b"))
    assert str(place) == "nats://a:4333,tls://b:4222"
    for wrong in ("kafka://a", "nats://", "nats", "nats://a:x"):
        with pytest.raises(InvalidArgument, match="no way for events"):
            parse_events(wrong)


def test_a_missing_package_is_told(monkeypatch):
    """Without nats-py the setting says what to install."""
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(InvalidArgument, match="nats-py") as refused:
        parse_events("nats://a")
    assert "tritium[cluster]" in refused.value.hint
