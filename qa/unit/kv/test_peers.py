"""Blocks in other workers' host memory: found, leased, read by either path, and lost with their peer."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qa.unit.kv.blocks import BLOCK, PATIENCE_S, SHAPE, data, keys, load, save

from tritium.core.errors import InvalidArgument
from tritium.kv.block import Namespace, Tier
from tritium.kv.host import HostTier
from tritium.kv.nixl_package import find_nixl
from tritium.kv.peers import serving
from tritium.kv.peers.meeting import addresses_at
from tritium.kv.peers.wire import Done, Lease, Leased, Line, Purpose, ask_in
from tritium.kv.settings import DiskSettings, HostSettings, PeerSettings, StoreSettings, split_address
from tritium.kv.store import BlockStore

ROOT = Path(__file__).parents[3]
SECRET = b"0123456789abcdef"
NIXL = (pytest.mark.alone, pytest.mark.skipif(not find_nixl(), reason="NIXL is not installed"))
PATHS = ["plain", pytest.param("nixl", marks=NIXL)]


def settings(folder: Path, path: str = "plain", host: int = 80, **more: object) -> StoreSettings:
    """Return a store of so many blocks that meets others in a folder."""
    disk = DiskSettings(40 * 8192, (folder / "disk",), min_uses=1) if more.pop("disk", None) else None
    peers = PeerSettings((str(folder / "meet"),), path=path, timeout_s=30, **more)  # type: ignore[arg-type]
    return StoreSettings(BLOCK, HostSettings(host * BLOCK), disk, peers=peers)


def wait_for(what: Callable[[], object]) -> None:
    """Wait until something is so."""
    never = threading.Event()
    for _ in range(PATIENCE_S * 100):
        if what():
            return
        never.wait(0.01)
    raise AssertionError("it did not come to be so in time")


CHILD = """
import sys, signal
from pathlib import Path
from qa.unit.kv.blocks import data, keys
from qa.unit.kv.test_peers import settings
from tritium.kv.store import BlockStore

store = BlockStore(settings(Path(sys.argv[1]), sys.argv[2]))
names = keys(20)
assert store.save(names, [data(key) for key in names]).wait(60)
print(store.peer_address, flush=True)
signal.pause()
"""


@contextlib.contextmanager
def peer(folder: Path, path: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a store of 20 blocks in a process of its own."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), path], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline().startswith(b"127.0.0.1:")
        yield child
    finally:
        child.kill()
        child.wait(PATIENCE_S)
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.parametrize("path", PATHS)
def test_blocks_of_another_process_are_loaded(tmp_path: Path, path: str) -> None:
    """They are found by the folder, read, compared, and gone for us once their process is killed."""
    with peer(tmp_path, path) as child, BlockStore(settings(tmp_path, path)) as store:
        wait_for(lambda: store.longest(keys(20)) == 20)
        assert store.hold(keys(2)) == [Tier.PEER] * 2
        assert load(store, keys(22)) == [True] * 20 + [False] * 2
        assert store.stats().tiers[Tier.PEER].hits >= 20
        assert store.peers()[0].because.startswith(path)
        assert {event.key for event in store.events() if event.tier is Tier.PEER and event.stored} == set(keys(20))
        child.kill()
        wait_for(lambda: store.stats().peers == 0 and Tier.PEER not in store.hold(keys(20)))
        assert {e.key for e in store.events() if e.tier is Tier.PEER and not e.stored} == set(keys(20))


@pytest.mark.parametrize("path", PATHS)
def test_a_peer_that_stops_in_the_middle_is_done_without(tmp_path: Path, path: str) -> None:
    """Killed while its blocks are being read: each arrives whole, comes from our own disk, or fails."""
    ours = keys(10)
    with BlockStore(settings(tmp_path, path, host=4, disk=True)) as store:
        for first in range(0, 10, 2):
            save(store, ours[first : first + 2])
    with peer(tmp_path, path) as child, BlockStore(settings(tmp_path, path, host=4, disk=True)) as store:
        wait_for(lambda: store.longest(keys(20)) == 20)
        transfers = []
        for turn in range(40):
            into = [memoryview(bytearray(BLOCK)) for _ in range(20)]
            transfers.append((store.load(keys(20), into), into))
            if turn == 10:
                child.kill()
        for transfer, into in transfers:
            assert transfer.wait(PATIENCE_S)
            assert transfer.failed <= set(range(10, 20))  # the first ten are on our disk too
            for place, (key, block) in enumerate(zip(keys(20), into, strict=True)):
                assert place in transfer.failed or block == data(key)


def test_a_stopped_peer_is_not_waited_for(tmp_path: Path) -> None:
    """One that answers no more, but is there: its blocks fail after the timeout, and it is left alone."""
    hasty = settings(tmp_path)
    assert hasty.peers is not None
    hasty = StoreSettings(BLOCK, HostSettings(4 * BLOCK), peers=PeerSettings(hasty.peers.at, timeout_s=1, path="plain"))
    with peer(tmp_path, "plain") as child, BlockStore(hasty) as store:
        wait_for(lambda: store.longest(keys(20)) == 20)
        child.send_signal(signal.SIGSTOP)
        assert load(store, keys(4)) == [False] * 4
        assert store.stats().peers == 0
        child.send_signal(signal.SIGCONT)


def test_leased_blocks_stay_where_they_are(tmp_path: Path) -> None:
    """While a reader has a lease nothing overwrites its blocks, and they are free again when it hangs up."""
    with BlockStore(settings(tmp_path, host=8)) as store:
        save(store, keys(4))
        line = Line(socket.create_connection(split_address(store.peer_address), PATIENCE_S))
        ask_in(line, Purpose.FETCH, b"reader", None, b"")
        line.send(Lease(keys(4), [BLOCK] * 4, send=False))
        leased = line.receive(Leased)
        assert min(leased.offsets) >= 0
        for first in range(100, 140, 4):
            save(store, keys(4, first))
        assert store.longest(keys(4)) == 4
        line.close()

        def evicted() -> bool:
            save(store, keys(8, 200))
            return store.longest(keys(4)) == 0

        wait_for(evicted)


def test_changes_reach_peers(tmp_path: Path) -> None:
    """What comes to a host tier later, and what leaves it."""
    with BlockStore(settings(tmp_path, host=4)) as giving, BlockStore(settings(tmp_path)) as asking:
        save(giving, keys(4))
        wait_for(lambda: asking.longest(keys(4)) == 4)
        save(giving, keys(4, 50))
        wait_for(lambda: asking.hold(keys(4)) == [None] * 4 and asking.longest(keys(4, 50)) == 4)
        assert load(asking, keys(4, 50)) == [True] * 4
        wait_for(lambda: giving.stats().served_blocks >= 4)  # counted once they are sent


def test_only_blocks_of_interest_are_told_of(tmp_path: Path) -> None:
    """Of other models and shapes nothing is heard."""
    other = Namespace("other", "bfloat16", SHAPE.layout, 16)
    with (
        BlockStore(settings(tmp_path)) as giving,
        BlockStore(settings(tmp_path, prefix=other.prefix)) as asking,
    ):
        save(giving, keys(4))
        save(giving, keys(4, 0, other))
        wait_for(lambda: asking.longest(keys(4, 0, other)) == 4)
        assert asking.hold(keys(4)) == [None] * 4


def test_a_damaged_block_of_a_peer_is_not_taken(tmp_path: Path) -> None:
    """The checksum that comes with the lease is compared at the receiver."""
    with BlockStore(settings(tmp_path)) as giving, BlockStore(settings(tmp_path)) as asking:
        save(giving, keys(2))
        wait_for(lambda: asking.longest(keys(2)) == 2)
        assert asking.settle(PATIENCE_S)
        host = giving._ladder.levels[0]
        assert isinstance(host, HostTier)
        host.arena[:8] = b"spoiling"
        assert load(asking, keys(2)) == [False, True]
        assert asking.stats().tiers[Tier.PEER].damaged == 1


@pytest.mark.parametrize("theirs", [None, b"another secret of some length"])
def test_strangers_learn_nothing(tmp_path: Path, theirs: bytes | None) -> None:
    """Without the secret nobody is told of blocks, and the reason is said."""
    with (
        BlockStore(settings(tmp_path, secret=SECRET)) as giving,
        BlockStore(settings(tmp_path, secret=theirs)) as asking,
    ):
        save(giving, keys(2))
        wait_for(lambda: asking.peers() and "secret" in asking.peers()[0].because)
        assert asking.hold(keys(2)) == [None, None]


def test_members_share_a_secret(tmp_path: Path) -> None:
    """With the same one blocks are read; it is in no representation of the settings."""
    ours = settings(tmp_path, secret=SECRET)
    assert "0123" not in repr(ours)
    with BlockStore(ours) as giving, BlockStore(ours) as asking:
        save(giving, keys(2))
        wait_for(lambda: load(asking, keys(2)) == [True, True])


def test_what_a_killed_store_leaves_in_the_folder_goes(tmp_path: Path) -> None:
    """A notice that nobody holds is taken away; other files are not."""
    folder = tmp_path / "meet"
    folder.mkdir()
    (folder / "dead.peer").write_text("tritium-kv 127.0.0.1:9\n")
    (folder / "notes.peer").write_text("mine\n")
    with BlockStore(settings(tmp_path)) as store:
        assert addresses_at(str(folder)) == [store.peer_address]
    assert [path.name for path in folder.iterdir()] == ["notes.peer"]


def test_a_name_that_no_host_has_leads_to_nobody() -> None:
    """Looking for peers goes on where a name cannot be looked up, or is none."""
    assert addresses_at(f"{'a' * 70}:7000") == []


def test_garbage_is_hung_up_on(tmp_path: Path) -> None:
    """What speaks another protocol is cut off, and the others are served on."""
    with BlockStore(settings(tmp_path)) as giving, BlockStore(settings(tmp_path)) as asking:
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x00\x00\x00\x01\xc1"):
            with socket.create_connection(split_address(giving.peer_address), PATIENCE_S) as stranger:
                stranger.sendall(said)
                stranger.settimeout(PATIENCE_S)
                with contextlib.suppress(ConnectionResetError):
                    while stranger.recv(4096):
                        pass
        save(giving, keys(2))
        wait_for(lambda: load(asking, keys(2)) == [True, True])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"listen": "0.0.0.0:0"}, "need a secret"),
        ({"secret": b"short"}, "needs 16 bytes"),
        ({"path": "pigeon"}, "do not come by 'pigeon'"),
        ({"at": ("nowhere",)}, "no address of peers"),
    ],
)
def test_peers_that_cannot_be_are_refused(given: dict[str, object], told: str) -> None:
    """Before anything is opened, with what is wrong."""
    with pytest.raises(InvalidArgument, match=told):
        PeerSettings(**given)  # type: ignore[arg-type]


def test_readers_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that finds half of the tier on lease gets its blocks once another is done."""
    monkeypatch.setattr(serving, "_ROOM_WAIT_S", 30)
    with BlockStore(settings(tmp_path, host=8)) as store:
        save(store, keys(8))
        lines = [Line(socket.create_connection(split_address(store.peer_address), PATIENCE_S)) for _ in range(2)]
        for place, line in enumerate(lines):
            ask_in(line, Purpose.FETCH, b"reader", None, b"")
            line.send(Lease(keys(4, 4 * place), [BLOCK] * 4, send=False))
            if not place:
                assert min(line.receive(Leased).offsets) >= 0
        lines[0].send(Done())
        assert min(lines[1].receive(Leased).offsets) >= 0
        for line in lines:
            line.close()


def test_at_most_half_of_the_host_tier_is_on_lease(tmp_path: Path) -> None:
    """So that readers cannot keep a worker from saving."""
    with BlockStore(settings(tmp_path, host=8)) as store:
        save(store, keys(8))
        line = Line(socket.create_connection(split_address(store.peer_address), PATIENCE_S))
        ask_in(line, Purpose.FETCH, b"reader", None, b"")
        line.send(Lease(keys(5), [BLOCK] * 5, send=False))
        assert line.receive(Leased).offsets == [-1] * 5
        line.close()
