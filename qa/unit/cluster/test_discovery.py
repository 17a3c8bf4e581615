"""Every kind of discovery says the same: who is there, who left, who died; and an outage changes nothing."""

import asyncio
import dataclasses
import os
import shutil
import time

import msgspec
import pytest
from qa.unit.cluster.etcd_server import EtcdServer
from qa.unit.cluster.memory_discovery import MemoryDiscovery
from qa.unit.cluster.remote_fleet import until

from tritium.backends.engine import EngineInfo, Role
from tritium.cluster.card import CardFile, Instance, ModelCard
from tritium.cluster.discovery import etcd as etcd_discovery
from tritium.cluster.discovery.choose import open_discovery
from tritium.cluster.discovery.contract import read_instance, write_instance
from tritium.cluster.discovery.etcd import EtcdDiscovery
from tritium.cluster.discovery.etcd_client import EtcdError, parse_etcd
from tritium.cluster.discovery.folder import FolderDiscovery
from tritium.core.errors import InvalidArgument, Unavailable

CARD = ModelCard(
    "m", EngineInfo("echo", "1", 100, 4, 10, 2), (CardFile("tokenizer.json", 3, "a" * 64),), '{"x":1}', "backend: ..."
)


def instance(worker, run="1", namespace="default"):
    return Instance(namespace, worker, run, Role.AGGREGATED, "127.0.0.1:5", 3, 1.0, CARD)


class Views:
    """What a follower was shown."""

    def __init__(self):
        self.all = []

    def __call__(self, view):
        self.all.append(dict(view))

    @property
    def workers(self):
        return sorted(one.worker for one in self.all[-1].values()) if self.all else None


@pytest.fixture(scope="module")
def etcd():
    if shutil.which("etcd") is None:
        pytest.skip("needs etcd, which is not installed (apt-get install etcd-server)")
    server = EtcdServer().start_now()
    yield server
    server.close()


@pytest.fixture(params=["memory", "folder", pytest.param("etcd", marks=pytest.mark.server("etcd"))])
async def two(request, tmp_path):
    """Discovery as a worker and as a front have it."""
    if request.param == "memory":
        discovery = MemoryDiscovery()
        found = (discovery, discovery)
    elif request.param == "folder":
        found = (FolderDiscovery(tmp_path, look_s=0.02), FolderDiscovery(tmp_path, look_s=0.02))
    else:
        server = request.getfixturevalue("etcd")
        place = parse_etcd(f"{server.address}/{tmp_path.name}")
        found = (EtcdDiscovery(place), EtcdDiscovery(place))
    yield found
    for discovery in found:
        await discovery.close()


async def test_who_comes_and_goes(two):
    """A follower sees who is there already, who comes, and who leaves; of its namespace alone."""
    worker, front = two
    views, others = Views(), Views()
    await worker.announce(instance("a"))
    front.follow("default", views)
    front.follow("other", others)
    await until(lambda: views.workers == ["a"])
    await worker.announce(instance("b/c d"))
    await worker.announce(instance("x", namespace="other"))
    await until(lambda: views.workers == ["a", "b/c d"] and others.workers == ["x"])
    assert instance("b/c d") in views.all[-1].values()
    await worker.withdraw(instance("a"))
    await worker.withdraw(instance("a"))
    await until(lambda: views.workers == ["b/c d"])
    assert front.status.connected
    assert time.monotonic() - front.status.heard_s < 60


async def test_who_is_told_anew(two):
    """A worker in another role stands in the place of what was told of it before, and goes with its one withdrawal."""
    worker, front = two
    views = Views()
    await worker.announce(instance("a"))
    front.follow("default", views)
    await until(lambda: views.workers == ["a"])
    for number, role in enumerate((Role.PREFILL, Role.DECODE, Role.PREFILL), 1):
        changed = msgspec.structs.replace(instance("a"), role=role, role_number=number)
        await worker.announce(changed)
        await until(lambda changed=changed: list(views.all[-1].values()) == [changed])
    await worker.withdraw(instance("a"))
    await until(lambda: views.workers == [])


async def test_nobody_there_is_known_too(two):
    """A follower of an empty namespace is told so, for a front has to know when it has seen everything."""
    _, front = two
    views = Views()
    front.follow("empty", views)
    await until(lambda: views.all)
    assert views.workers == []


async def test_closing_withdraws(two):
    """What ends in good order leaves nothing behind."""
    worker, front = two
    if worker is front:
        pytest.skip("in memory both are one")
    views = Views()
    front.follow("default", views)
    await worker.announce(instance("a"))
    await until(lambda: views.workers == ["a"])
    await worker.close()
    await until(lambda: views.workers == [])


async def test_a_dead_worker_s_card_is_found_dead(tmp_path):
    """A card that nobody touches any more is of a worker that was killed, whatever the clocks of machines say."""
    front = FolderDiscovery(tmp_path, look_s=0.02, dead_s=1.0)
    alive = FolderDiscovery(tmp_path, beat_s=0.1)
    views = Views()
    await alive.announce(instance("alive"))
    (tmp_path / "default" / "dead.1.json").write_bytes(write_instance(instance("dead")))
    front.follow("default", views)
    await until(lambda: views.workers == ["alive", "dead"])
    await until(lambda: views.workers == ["alive"])
    await front.close()
    await alive.close()


async def test_a_folder_that_cannot_be_read_changes_nothing(tmp_path):
    """An outage of the shared file system leaves the last view, and is counted when it is over."""
    folder = tmp_path / "share"
    worker, front = FolderDiscovery(folder, beat_s=600), FolderDiscovery(folder, look_s=0.02)
    views = Views()
    await worker.announce(instance("a"))
    front.follow("default", views)
    await until(lambda: views.workers == ["a"])
    folder.rename(tmp_path / "away")
    await until(lambda: not front.status.connected)
    assert views.workers == ["a"]
    (tmp_path / "away").rename(folder)
    await until(lambda: front.status.connected)
    assert front.status.reconnects == 1
    assert len(views.all) == 1
    await front.close()
    await worker.close()


async def test_a_card_that_cannot_be_read_harms_no_other(tmp_path):
    """Garbage in the folder is counted and passed over; half-written files have names that are not looked at."""
    worker, front = FolderDiscovery(tmp_path), FolderDiscovery(tmp_path, look_s=0.02)
    views = Views()
    await worker.announce(instance("a"))
    (tmp_path / "default" / "junk.1.json").write_bytes(b"{")
    front.follow("default", views)
    await until(lambda: views.workers == ["a"])
    assert front.status.unreadable == 1
    await front.close()
    await worker.close()


async def test_junk_in_the_folder_harms_no_card(tmp_path):
    """Folders, pipes, links that lead nowhere and endless nesting are passed over; what becomes a card is taken."""
    worker, front = FolderDiscovery(tmp_path), FolderDiscovery(tmp_path, look_s=0.02)
    views = Views()
    await worker.announce(instance("a"))
    folder = tmp_path / "default"
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    (folder / "round.json").symlink_to("round.json")
    (folder / "deep.json").write_text("[" * 200_000)
    (folder / os.fsdecode(b"\xff.json")).write_bytes(b"\xff")
    (folder / "b.1.json").write_text("{")
    front.follow("default", views)
    await until(lambda: views.workers == ["a"])
    assert front.status.unreadable == 5
    (folder / "b.1.json").write_bytes(write_instance(instance("b")))
    await until(lambda: views.workers == ["a", "b"])
    assert front.status.connected
    await front.close()
    await worker.close()


async def test_a_card_that_lies_under_another_s_name_in_a_folder(tmp_path):
    """A card that says it is that of a worker whose name its file has not takes nobody's place."""
    worker, front = FolderDiscovery(tmp_path), FolderDiscovery(tmp_path, look_s=0.02)
    views = Views()
    await worker.announce(instance("a"))
    false = msgspec.structs.replace(instance("a"), address="127.0.0.1:6")
    (tmp_path / "default" / "z.1.json").write_bytes(write_instance(false))
    front.follow("default", views)
    await until(lambda: views.all)
    assert list(views.all[-1].values()) == [instance("a")]
    assert front.status.unreadable == 1
    await front.close()
    await worker.close()


@pytest.mark.server("etcd")
async def test_a_card_that_lies_under_another_s_key_in_etcd(etcd, tmp_path):
    """So in etcd, of another namespace as well."""
    place = parse_etcd(f"{etcd.address}/{tmp_path.name}")
    worker, front = EtcdDiscovery(place), EtcdDiscovery(place)
    views = Views()
    await worker.announce(instance("a"))
    lease = await worker._client.grant(60)
    false = msgspec.structs.replace(instance("a"), address="127.0.0.1:6")
    for one in (false, instance("z", namespace="other")):
        key = f"{place.prefix}/workers/default/z/{one.worker}"
        await worker._client.put(key, write_instance(one), lease)
    front.follow("default", views)
    await until(lambda: views.all)
    assert list(views.all[-1].values()) == [instance("a")]
    assert front.status.unreadable == 2
    await worker._client.revoke(lease)
    await worker.close()
    await front.close()


async def test_a_folder_that_cannot_be_written(tmp_path):
    """A worker that cannot announce itself says where and why."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"cannot be announced in .*file: Not a directory"):
        await FolderDiscovery(tmp_path / "file").announce(instance("a"))


@pytest.mark.server("etcd")
async def test_a_brief_outage_of_etcd_loses_nobody(tmp_path):
    """etcd killed and started again: the front keeps its view meanwhile, and sees changes after it."""
    server = await EtcdServer().start()
    worker, front = (EtcdDiscovery(parse_etcd(server.address)) for _ in range(2))
    views = Views()
    try:
        await worker.announce(instance("a"))
        front.follow("default", views)
        await until(lambda: views.workers == ["a"])
        server.kill()
        await until(lambda: not front.status.connected)
        assert views.workers == ["a"]
        await server.start()
        await until(lambda: front.status.connected, 60)
        await worker.announce(instance("b"))
        await until(lambda: views.workers == ["a", "b"], 60)
        assert [] not in [list(view) for view in views.all]
        assert front.status.reconnects >= 1
    finally:
        await front.close()
        await worker.close()
        server.close()


@pytest.mark.server("etcd")
async def test_an_expired_lease_is_announced_anew(etcd, tmp_path, monkeypatch):
    """A worker whose lease ended while it was held up is announced again."""
    monkeypatch.setattr(etcd_discovery, "RENEW_S", 0.2)
    place = parse_etcd(f"{etcd.address}/{tmp_path.name}")
    worker, front = EtcdDiscovery(place), EtcdDiscovery(place)
    views = Views()
    await worker.announce(instance("a"))
    front.follow("default", views)
    await until(lambda: views.workers == ["a"])
    await front._client.revoke(next(iter(worker._announced.values())).lease)
    await until(lambda: [] in [list(view) for view in views.all])
    await until(lambda: views.workers == ["a"])
    await worker.close()
    await front.close()


@pytest.mark.server("etcd")
async def test_a_watch_behind_a_compaction_lists_again(etcd, tmp_path):
    """A front that was away so long that etcd forgot what it missed finds back to the truth."""
    place = parse_etcd(f"{etcd.address}/{tmp_path.name}")
    worker, front = EtcdDiscovery(place), EtcdDiscovery(place)
    views = Views()
    listing = front._client.listing

    async def stale(prefix):
        """List, and have everything happen before the watch begins; once."""
        front._client.listing = listing
        found = await listing(prefix)
        await worker.announce(instance("late"))
        await etcd.compact()
        return dataclasses.replace(found, revision=1)

    front._client.listing = stale
    front.follow("default", views)
    await until(lambda: views.workers == ["late"])
    await worker.close()
    await front.close()


async def test_etcd_that_is_not_there():
    """A worker that cannot reach etcd says where it looked; a front waits."""
    discovery = EtcdDiscovery(parse_etcd("etcd://127.0.0.1:1"))
    with pytest.raises(EtcdError, match=r"etcd at 127\.0\.0\.1:1 does not answer"):
        await discovery.announce(instance("a"))
    views = Views()
    discovery.follow("default", views)
    await asyncio.sleep(0)
    assert views.all == []
    await discovery.close()


@pytest.mark.server("etcd")
async def test_one_of_several_endpoints_is_enough(etcd, tmp_path):
    """The next endpoint is tried when one does not answer."""
    discovery = EtcdDiscovery(parse_etcd(f"etcd://127.0.0.1:1,127.0.0.1:{etcd.port}/{tmp_path.name}"))
    views = Views()
    discovery.follow("default", views)
    await until(lambda: views.all, 60)
    await discovery.announce(instance("a"))
    await until(lambda: views.workers == ["a"])
    await discovery.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("etcd:/x", "is no address of etcd"),
        ("etcd://host:x", "is no address of etcd"),
        ("zookeeper://x", "is no discovery"),
        ("file:", "is no discovery"),
    ],
)
def test_addresses_that_mean_nothing(address, words):
    """What is no discovery is refused with what would be one."""
    with pytest.raises(InvalidArgument, match=words):
        open_discovery(address)


def test_an_instance_is_carried_whole():
    """What is written is what is read, and what a later release adds is passed over."""
    written = write_instance(instance("a"))
    assert read_instance(written) == instance("a")
    more = msgspec.json.encode({**msgspec.json.decode(written), "colour": "red"})
    assert read_instance(more) == instance("a")
    assert read_instance(b"[]") is None


def test_cards_differ_by_what_matters():
    """The reason names what differs and both values; the number of blocks may differ."""
    assert CARD.differs(msgspec.structs.replace(CARD, info=EngineInfo("echo", "2", 100, 4, 99, 2))) == ""
    other = msgspec.structs.replace(CARD, settings='{"x":2}')
    assert CARD.differs(other) == 'settings: {"x":2} instead of {"x":1}'
    assert CARD.checksum != other.checksum
