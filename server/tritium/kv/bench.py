"""How fast each tier is here, against the same bytes moved without it: memcpy, plain file I/O, the bucket's own client.

Both take turns in one run, so that a busy machine slows both; what is told are medians, and the median of the ratios
of turns. Of disk, both end with the bytes on the device, and begin to read with none of them in the page cache.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tritium.core.errors import Unavailable
from tritium.kv.block import Namespace, Tier
from tritium.kv.host import aligned_memory
from tritium.kv.nixl_package import find_nixl
from tritium.kv.objects import open_bucket
from tritium.kv.settings import DiskSettings, HostSettings, ObjectSettings, StoreSettings
from tritium.kv.store import BlockStore
from tritium.kv.transfer import Transfer

_PIECE_BYTES = 4 << 20
_PATIENCE_S = 300.0
_CACHE_LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Measured:
    """One direction of one tier."""

    tier: Tier
    what: str
    tier_gb_s: float
    raw_gb_s: float
    ratio: float
    """The median of the turns' ratios."""
    tier_cpu_s_gb: float = 0.0
    """Seconds of processors that a GB took this process: what is left of a tier when others want them too."""
    raw_cpu_s_gb: float = 0.0


@dataclass(frozen=True, slots=True)
class _Took:
    """What one turn took."""

    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """What is moved, how often, by how many threads."""

    block_bytes: int
    blocks: int
    turns: int = 5
    threads: int = 4

    @property
    def size_bytes(self) -> int:
        """Return the bytes of one turn."""
        return self.block_bytes * self.blocks


def bench_host(load: Load) -> list[Measured]:
    """Compare the host tier with memcpy by as many threads."""
    settings = _bounded(load, StoreSettings(load.block_bytes, HostSettings(2 * load.size_bytes)))
    source, target = _memory(load), _memory(load)
    aside = _memory(load)
    with ThreadPoolExecutor(load.threads) as pool:

        def copy(into: list[memoryview], blocks: list[memoryview]) -> None:
            share = -(-len(blocks) // load.threads)
            list(pool.map(_copy, _shares(into, share), _shares(blocks, share)))

        with BlockStore(settings) as store:
            return _tiers_turns(
                store, load, source, target, lambda: copy(aside, source), lambda: copy(target, aside), Tier.HOST
            )


def bench_disk(load: Load, directory: Path, *, direct: bool, mover: str) -> list[Measured]:
    """Compare the disk tier with one file written and read from end to end in the same directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=directory, prefix="bench-") as made:
        folder = Path(made)
        disk = DiskSettings(4 * load.size_bytes, (folder / "tier",), direct=direct, min_uses=0, mover=mover)
        file = os.open(folder / "raw", os.O_RDWR | os.O_CREAT | (os.O_DIRECT if direct else 0), 0o600)
        memory = aligned_memory(load.size_bytes)
        try:
            memory[:] = np.random.default_rng(1).bytes(load.size_bytes)

            def raw_write() -> None:
                for start in range(0, load.size_bytes, _PIECE_BYTES):
                    os.pwrite(file, memory[start : start + _PIECE_BYTES], start)
                os.fdatasync(file)

            def raw_read() -> None:
                for start in range(0, load.size_bytes, _PIECE_BYTES):
                    os.preadv(file, [memory[start : start + _PIECE_BYTES]], start)

            def uncached() -> None:
                for path in (folder / "raw", folder / "tier/blocks.dat"):
                    _forget_pages(path)

            with BlockStore(_bounded(load, StoreSettings(load.block_bytes, disk=disk))) as store:
                return _tiers_turns(
                    store,
                    load,
                    _memory(load),
                    _memory(load),
                    raw_write,
                    raw_read,
                    Tier.DISK,
                    flush=lambda: _flush(folder / "tier/blocks.dat"),
                    before_read=uncached,
                )
        finally:
            os.close(file)


def bench_objects(load: Load, settings: ObjectSettings) -> list[Measured]:
    """Compare the object tier with the same store's client, putting and getting as many objects at once."""
    settings = replace(settings, size_bytes=4 * load.turns * load.size_bytes, min_uses=0)
    bucket = open_bucket(settings)
    source, target = _memory(load), _memory(load)
    loop = asyncio.new_event_loop()

    async def at_once(work: Callable[[int], object]) -> None:
        gate = asyncio.Semaphore(settings.concurrency)

        async def one(place: int) -> None:
            async with gate:
                await work(place)  # type: ignore[misc]  # a coroutine of obstore's

        await asyncio.gather(*map(one, range(load.blocks)))

    async def get(place: int) -> None:
        answer = await bucket.get_async(f"raw/{place}")
        _copy([target[place]], [memoryview(await answer.bytes_async())])

    def raw_write() -> None:
        loop.run_until_complete(
            at_once(lambda place: bucket.put_async(f"raw/{place}", bytes(source[place]), use_multipart=False))
        )

    def raw_read() -> None:
        loop.run_until_complete(at_once(get))

    try:
        with BlockStore(_bounded(load, StoreSettings(load.block_bytes, objects=settings))) as store:
            measured = _tiers_turns(store, load, source, target, raw_write, raw_read, Tier.OBJECT)
            store.clear()
        # Not asynchronously: a process that ends while obstore's threads still let go of an answer is aborted.
        bucket.delete([f"raw/{place}" for place in range(load.blocks)])
        return measured
    finally:
        loop.close()


def movers() -> list[str]:
    """Return what can move blocks between memory and files here."""
    return ["plain", "nixl"] if find_nixl() else ["plain"]


def takes_direct(directory: Path) -> bool:
    """Return whether files in a directory can be used past the page cache."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(dir=directory, prefix="bench-") as made:
            os.close(os.open(Path(made) / "file", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600))
    except OSError:
        return False
    return True


def _tiers_turns(
    store: BlockStore,
    load: Load,
    source: list[memoryview],
    target: list[memoryview],
    raw_write: Callable[[], None],
    raw_read: Callable[[], None],
    tier: Tier,
    *,
    flush: Callable[[], None] = lambda: None,
    before_read: Callable[[], None] = lambda: None,
) -> list[Measured]:
    """Take turns; the first is not counted, for it meets memory and files that nobody touched before."""
    saves: list[_Took] = []
    loads: list[_Took] = []
    raw_saves: list[_Took] = []
    raw_loads: list[_Took] = []
    shape = Namespace("bench", "bytes", "", 1)
    for turn in range(load.turns + 1):
        keys = [shape.key((turn * load.blocks + i).to_bytes(8, "big")) for i in range(load.blocks)]
        store.clear()
        raw_saves.append(_timed(raw_write))

        saves.append(_timed(partial(_save, store, keys, source, flush)))
        before_read()
        raw_loads.append(_timed(raw_read))
        loads.append(_timed(partial(_load, store, keys, target)))
    return list(_compare(load, tier, (("save", saves, raw_saves), ("load", loads, raw_loads))))


def _compare(load: Load, tier: Tier, measured: Sequence[tuple[str, list[_Took], list[_Took]]]) -> Iterator[Measured]:
    size_gb = load.size_bytes / 1e9
    for what, ours, raw in measured:
        pairs = zip(ours[1:], raw[1:], strict=True)
        ratio = statistics.median(without.seconds / with_tier.seconds for with_tier, without in pairs)
        gb_s = [size_gb / statistics.median(took.seconds for took in turns[1:]) for turns in (ours, raw)]
        cpu_s_gb = [statistics.median(took.cpu_s for took in turns[1:]) / size_gb for turns in (ours, raw)]
        yield Measured(tier, what, gb_s[0], gb_s[1], ratio, cpu_s_gb[0], cpu_s_gb[1])


def _save(store: BlockStore, keys: list[bytes], blocks: list[memoryview], flush: Callable[[], None]) -> None:
    _finish(store.save(keys, blocks), "save")
    flush()


def _load(store: BlockStore, keys: list[bytes], into: list[memoryview]) -> None:
    _finish(store.load(keys, into), "load")


def _finish(transfer: Transfer, what: str) -> None:
    if not transfer.wait(_PATIENCE_S) or transfer.failed:
        raise Unavailable(f"{len(transfer.failed)} of {transfer.blocks} blocks failed to {what}")


def _timed(work: Callable[[], None]) -> _Took:
    started, cpu_started = time.perf_counter(), time.process_time()
    work()
    return _Took(time.perf_counter() - started, time.process_time() - cpu_started)


def _bounded(load: Load, settings: StoreSettings) -> StoreSettings:
    """Return the settings with as many threads as the raw side has, and nothing refused."""
    most = 2 * load.size_bytes
    return replace(
        settings,
        load_bytes_in_flight=most,
        save_bytes_in_flight=most,
        load_threads=load.threads,
        save_threads=load.threads,
    )


def _memory(load: Load) -> list[memoryview]:
    """Return blocks as an engine's lie: whole pages apart, but beginning with a cache line rather than with a page."""
    stride = -(-load.block_bytes // 4096) * 4096
    memory = aligned_memory(stride * load.blocks + _CACHE_LINE_BYTES)
    memory[:] = np.random.default_rng(2).bytes(len(memory))
    starts = range(_CACHE_LINE_BYTES, len(memory) - load.block_bytes + 1, stride)
    return [memory[start : start + load.block_bytes] for start in starts]


def _shares(blocks: list[memoryview], share: int) -> list[list[memoryview]]:
    return [blocks[start : start + share] for start in range(0, len(blocks), share)]


def _copy(into: Sequence[memoryview], blocks: Sequence[memoryview]) -> None:
    for target, block in zip(into, blocks, strict=True):
        np.copyto(np.frombuffer(target, np.uint8), np.frombuffer(block, np.uint8))


def _flush(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fdatasync(file)
    os.close(file)


def _forget_pages(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fdatasync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)
