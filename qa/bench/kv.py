"""How fast the tiers of KV are here, each against its raw limit in the same run, and by which way blocks come faster.

    python -m qa.bench.kv --directory DIR [--busy 2] [--only host,disk,objects,peers]

The raw limits are memcpy, one file in the same directory, and the client of the same S3 (moto's, started for the run).
`--busy` starts processes that compute all the time, as an engine's threads do. Aims: host 0.8, disk 0.8, objects 0.7.
"""

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tritium.kv.bench import Load, Measured, bench_disk, bench_host, bench_objects, movers, takes_direct
from tritium.kv.block import Namespace
from tritium.kv.host import aligned_memory
from tritium.kv.settings import HostSettings, ObjectSettings, PeerSettings, StoreSettings
from tritium.kv.store import BlockStore

AIMS = {"host": 0.8, "disk": 0.8, "objects": 0.7}
PARTS = ("host", "disk", "objects", "peers")
PATIENCE_S = 120.0
_SPIN = "import numpy as np\na = np.random.rand(300, 300)\nwhile True: a @ a"
_SHAPE = Namespace("bench", "bytes", "", 1)


def main() -> None:
    """Measure what was asked for and say which aims were met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("/tmp"), help="where the disk is measured")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute meanwhile")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--block", type=int, default=1 << 20, help="bytes of a block")
    parser.add_argument("--blocks", type=int, default=128, help="blocks a turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    load = Load(given.block, given.blocks, given.turns, given.threads)
    print(
        f"{load.blocks} blocks of {load.block_bytes >> 10} KiB, {load.threads} threads, medians of {load.turns} turns, "
        f"{given.busy} busy processes, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n"
    )
    print(f"{'tier':<30}{'':<6}{'GB/s':>8}{'raw GB/s':>10}{'ratio':>8}{'aim':>8}{'CPU s/GB':>10}{'raw':>6}")
    with busy(given.busy):
        asked = given.only.split(",")
        if "host" in asked:
            tell("host", "host", bench_host(load))
        if "disk" in asked:
            given.directory.mkdir(parents=True, exist_ok=True)
            measure_disk(load, given.directory)
        if "objects" in asked:
            measure_objects(load)
        if "peers" in asked:
            measure_peers(load)


def tell(name: str, kind: str, measured: list[Measured]) -> None:
    """Print a tier's rows."""
    for one in measured:
        verdict = "met" if one.ratio >= AIMS[kind] else "MISSED"
        numbers = f"{one.tier_gb_s:>8.2f}{one.raw_gb_s:>10.2f}{one.ratio:>8.2f}"
        cpu = f"{one.tier_cpu_s_gb:>10.2f}{one.raw_cpu_s_gb:>6.2f}"
        print(f"{name:<30}{one.what:<6}{numbers}{verdict:>8}{cpu}", flush=True)


def measure_disk(load: Load, directory: Path) -> None:
    """Measure the disk past the page cache and through it, by every mover."""
    with TemporaryDirectory(dir=directory, prefix="kv-bench-") as folder:
        for direct in (True, False) if takes_direct(Path(folder)) else (False,):
            for mover in movers():
                name = f"disk, {'direct' if direct else 'page cache'}, {mover}"
                tell(name, "disk", bench_disk(load, Path(folder), direct=direct, mover=mover))


def measure_objects(load: Load) -> None:
    """Measure objects in an S3 of this machine, by every mover."""
    with bucket() as endpoint:
        options = {"access_key_id": "k", "secret_access_key": "s", "region": "us-east-1"}
        for mover in ("obstore", *movers()[1:]):
            settings = ObjectSettings(
                1 << 30, "s3://bucket/kv", endpoint=endpoint, options=options, timeout_s=60, mover=mover
            )
            tell(f"objects, {mover}", "objects", bench_objects(load, settings))


def measure_peers(load: Load) -> None:
    """Measure loads out of another process's host tier, by every path."""
    speeds = {}
    for path in ("plain", *movers()[1:]):
        with TemporaryDirectory(prefix="kv-bench-") as folder, peer(folder, path, load):
            seconds = _load_from_peer(folder, path, load)
        speeds[path] = load.size_bytes / seconds / 1e9
        ratio = speeds[path] / speeds["plain"]
        print(f"{f'peer, {path}':<30}{'load':<6}{speeds[path]:>8.2f}{speeds['plain']:>10.2f}{ratio:>8.2f}", flush=True)


def _load_from_peer(folder: str, path: str, load: Load) -> float:
    """Return what one turn takes."""
    names = _names(load)
    memory = aligned_memory(load.size_bytes)
    into = [memory[i * load.block_bytes : (i + 1) * load.block_bytes] for i in range(load.blocks)]
    took = []
    with BlockStore(_settings(folder, path, load, host_blocks=1)) as store:
        until = time.monotonic() + PATIENCE_S
        while store.longest(names) < load.blocks:
            if time.monotonic() > until:
                raise SystemExit(f"the peer did not come: {store.peers()}")
            time.sleep(0.01)
        for _ in range(load.turns + 1):
            began = time.perf_counter()
            transfer = store.load(names, into)
            if not transfer.wait(PATIENCE_S) or transfer.failed:
                raise SystemExit(f"{len(transfer.failed)} blocks of the peer did not arrive: {store.peers()}")
            took.append(time.perf_counter() - began)
    return statistics.median(took[1:])


@contextlib.contextmanager
def peer(folder: str, path: str, load: Load) -> Iterator[None]:
    """Run a store with all blocks in a process of its own."""
    words = [sys.executable, "-m", "qa.bench.kv", "--as-peer", folder, path, str(load.block_bytes), str(load.blocks)]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        yield
    finally:
        child.communicate()


def be_peer(folder: str, path: str, block_bytes: int, blocks: int) -> None:
    """Hold blocks until standard input ends."""
    load = Load(block_bytes, blocks)
    with BlockStore(_settings(folder, path, load, host_blocks=2 * blocks)) as store:
        data = memoryview(np.random.default_rng(1).bytes(block_bytes))
        for name in _names(load):
            store.save([name], [data]).wait(PATIENCE_S)
        print("there", flush=True)
        sys.stdin.read()


def _settings(folder: str, path: str, load: Load, host_blocks: int) -> StoreSettings:
    return StoreSettings(
        load.block_bytes,
        HostSettings(host_blocks * load.block_bytes),
        peers=PeerSettings((folder,), path=path, timeout_s=PATIENCE_S),
        load_threads=load.threads,
        load_bytes_in_flight=2 * load.size_bytes,
    )


def _names(load: Load) -> list[bytes]:
    return [_SHAPE.key(i.to_bytes(8, "big")) for i in range(load.blocks)]


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep processors busy."""
    spinning = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@contextlib.contextmanager
def bucket() -> Iterator[str]:
    """Run moto's S3 with a bucket; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=k/20200101/us-east-1/s3/aws4_request"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT", headers=headers)
        until = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(request, timeout=10).close()
                break
            if time.monotonic() > until or process.poll() is not None:
                raise SystemExit("moto's S3 did not start (pip install 'moto[s3,server]')")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-peer"]:
        be_peer(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
