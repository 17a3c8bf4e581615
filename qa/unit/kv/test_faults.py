"""Whatever breaks, a block is served as it was saved or not at all, and the store goes on."""

import contextlib
import errno
import random
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from qa.unit.kv.blocks import BLOCK, PATIENCE_S, keys, load, save

from tritium.kv.block import Tier
from tritium.kv.disk import DiskTier
from tritium.kv.host import HostTier
from tritium.kv.inspection import clear_objects, object_names
from tritium.kv.mover import PlainMover, Run
from tritium.kv.nixl_package import find_nixl
from tritium.kv.objects import ObjectTier
from tritium.kv.settings import DiskSettings, HostSettings, ObjectSettings, StoreSettings, Writing
from tritium.kv.store import BlockStore

ROOT = Path(__file__).parents[3]
FAULTS = 1000
NIXL = (pytest.mark.alone, pytest.mark.skipif(not find_nixl(), reason="NIXL is not installed"))


class Failing(PlainMover):
    """A disk that fails when told to: full, unreadable, or stopping halfway."""

    def __init__(self) -> None:
        self.next: str = ""

    def write(self, file: int, run: Run) -> None:
        """Write, unless the disk is full, or only the first half of what there is."""
        told, self.next = self.next, ""
        if told == "full":
            raise OSError(errno.ENOSPC, "no space left on device")
        if told == "half":
            first = run.views[0]
            super().write(file, Run(run.offset, [first[: first.nbytes // 2]]))
            raise OSError(errno.EIO, "gone")
        if told == "lying half":
            first = run.views[0]
            run = Run(run.offset, [first[: first.nbytes // 2]])
        super().write(file, run)

    def read(self, file: int, run: Run) -> None:
        """Read, unless the disk fails."""
        told, self.next = self.next, ""
        if told == "unreadable":
            raise OSError(errno.EIO, "input/output error")
        super().read(file, run)


def spoil(path: Path, rng: random.Random) -> None:
    """Change some bytes of a file, or cut it off."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        if rng.random() < 0.1:
            file.truncate(rng.randrange(size + 1))
        else:
            for _ in range(rng.randrange(1, 4)):
                file.seek(rng.randrange(size))
                file.write(rng.randbytes(rng.randrange(1, 64)))


def files(folder: Path) -> list[Path]:
    """Return the files of a tier that hold anything."""
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]


@pytest.mark.parametrize("writing", Writing)
def test_random_faults_never_spoil_a_block(tmp_path: Path, writing: Writing) -> None:
    """Bytes changed and cut off in memory, on disk and in objects; disks full, unreadable, halfway; restarts between.

    `load` compares every block that is said to have arrived. In the end the store still keeps what it is given.
    """
    rng = random.Random(f"seed {writing}")
    (tmp_path / "bucket").mkdir()
    settings = StoreSettings(
        BLOCK,
        HostSettings(12 * BLOCK),
        DiskSettings(30 * 8192, (tmp_path / "disk",), min_uses=1),
        ObjectSettings(60 * BLOCK, f"file://{tmp_path / 'bucket'}", min_uses=1),
        writing,
    )
    store = BlockStore(settings)
    served = faults = 0
    try:
        while faults < FAULTS // 2:
            host, disk = store._ladder.levels[:2]
            assert isinstance(host, HostTier)
            assert isinstance(disk, DiskTier)
            if not isinstance(disk._mover, Failing):
                disk._mover = Failing()
            fault = rng.choice(
                ("memory", "disk", "object", "delete", "full", "half", "lying half", "unreadable", "restart")
            )
            if fault == "memory":
                start = rng.randrange(len(host.arena))
                host.arena[start : start + 8] = rng.randbytes(len(host.arena[start : start + 8]))
            elif fault == "disk":
                spoil(rng.choice(files(tmp_path / "disk") or [tmp_path / "disk/blocks.idx"]), rng)
            elif fault in ("object", "delete") and files(tmp_path / "bucket"):
                chosen = rng.choice(files(tmp_path / "bucket"))
                chosen.unlink() if fault == "delete" else spoil(chosen, rng)
            elif fault == "restart":
                store.close()
                index = tmp_path / "disk/blocks.idx"
                if index.read_bytes()[:9].strip(b"\0") not in (b"", b"TritiumKV"):
                    index.unlink()  # what is none of ours is left alone: its operator removes it
                    (tmp_path / "disk/blocks.dat").unlink()
                store = BlockStore(settings)
            else:
                disk._mover.next = fault
            faults += 1
            save(store, keys(rng.randrange(1, 6), rng.randrange(80)))
            served += sum(load(store, keys(rng.randrange(1, 10), rng.randrange(80))))
        names = keys(4, 1000)
        assert save(store, names) == [True] * 4
        assert load(store, names) == [True] * 4
    finally:
        store.close()
    assert served > FAULTS / 2


CHILD = """
import sys, itertools, random
from pathlib import Path
from qa.unit.kv.blocks import BLOCK, data, keys
from tritium.kv.settings import DiskSettings, HostSettings, StoreSettings, Writing
from tritium.kv.store import BlockStore

folder, writing, first = Path(sys.argv[1]), Writing(sys.argv[2]), int(sys.argv[3])
disk = DiskSettings(64 * 8192, (folder,), min_uses=1)
store = BlockStore(StoreSettings(BLOCK, HostSettings(8 * BLOCK), disk, None, writing))
print("begun", flush=True)
for n in itertools.count(first):
    names = keys(4, n % 100)
    store.save(names, [data(key) for key in names])
    store.load(names, [memoryview(bytearray(BLOCK)) for _ in names])
"""


def test_a_killed_process_leaves_nothing_wrong_behind(tmp_path: Path) -> None:
    """kill -9 among saves, loads and evictions, time and again: what the next store finds is right, and it works."""
    rng = random.Random(9)
    kept = 0
    for turn in range(6):
        writing = rng.choice(list(Writing))
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), writing, str(turn * 37)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == b"begun\n"
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(rng.uniform(0.02, 0.3))
            child.send_signal(signal.SIGKILL)
            assert child.wait(PATIENCE_S) == -signal.SIGKILL
        with BlockStore(StoreSettings(BLOCK, disk=DiskSettings(64 * 8192, (tmp_path,), min_uses=1))) as store:
            kept += sum(load(store, keys(104)))
            assert save(store, keys(2, 2000 + turn)) == [True] * 2
    assert kept > 0


def objects(address: str, timeout_s: float = 30.0, mover: str = "obstore") -> StoreSettings:
    """Return a store of host memory over an S3 at an address."""
    keys_of_s3 = {"access_key_id": "k", "secret_access_key": "s", "region": "us-east-1"}
    below = ObjectSettings(
        100 * BLOCK,
        "s3://bucket/kv",
        min_uses=1,
        timeout_s=timeout_s,
        endpoint=f"http://{address}",
        options=keys_of_s3,
        mover=mover,
    )
    return StoreSettings(BLOCK, HostSettings(4 * BLOCK), None, below)


def test_a_bucket_that_is_down_is_left_alone() -> None:
    """Nothing listens there: saves go to the host, loads of what it lacks fail, and the bucket rests."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with BlockStore(objects(f"127.0.0.1:{closed.getsockname()[1]}")) as store:
            save(store, keys(4))
            save(store, keys(4, 4))
            assert load(store, keys(8)) == [False] * 4 + [True] * 4
            assert store.stats().tiers[Tier.OBJECT].blocks == 0
            bucket = store._ladder.levels[1]
            assert isinstance(bucket, ObjectTier)
            assert bucket._rest.seconds > 0


def test_a_bucket_that_is_slow_is_not_waited_for() -> None:
    """It takes connections and never answers: every request ends after its timeout, and the next ones at once."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        with BlockStore(objects(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)) as store:
            save(store, keys(4))
            assert load(store, keys(4)) == [True] * 4
            assert store.stats().tiers[Tier.OBJECT].blocks == 0


@pytest.mark.parametrize("mover", ["obstore", pytest.param("nixl", marks=NIXL)])
def test_real_s3_keeps_blocks_over_restarts(s3_endpoint: str, mover: str) -> None:
    """Put, listed, fetched and deleted through S3's own protocol."""
    settings = objects(s3_endpoint, mover=mover)
    assert settings.objects is not None
    with BlockStore(settings) as store:
        save(store, keys(4))
        save(store, keys(4, 4))
        assert load(store, keys(8)) == [True] * 8
    with BlockStore(settings) as store:
        assert store.settle(PATIENCE_S)
        assert store.hold(keys(8)) == [Tier.OBJECT] * 8
        assert load(store, keys(8)) == [True] * 8
        clear_objects(settings.objects, [name for name, _ in object_names(settings.objects)][:1])
        assert sum(load(store, keys(8))) >= 7
        assert store.clear() >= 7
    with BlockStore(settings) as store:
        assert store.settle(PATIENCE_S)
        assert store.longest(keys(8)) == 0


class Refusing(BaseHTTPRequestHandler):
    """An S3 that answers everything with one status; the one in its path is 0 for hanging up in the middle."""

    def _answer(self) -> None:
        status = self.server.status  # type: ignore[attr-defined]
        if not status:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf of")
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer  # noqa: N815  (as http.server asks for them)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503, 0])
def test_a_bucket_that_refuses_is_done_without(status: int) -> None:
    """Whatever it answers, blocks are kept above it, and those that only it could have are computed."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.status = status  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with BlockStore(objects(f"127.0.0.1:{server.server_port}")) as store:
                save(store, keys(4))
                save(store, keys(4, 4))
                assert load(store, keys(8))[4:] == [True] * 4
                assert store._ladder.levels[1].shelf.held(keys(1)[0]) is None or not status
        finally:
            server.shutdown()
