"""The worker's side: opens the block store beside the KV cache and moves blocks between both.

    load:  waiting --room in flight--> store.load into rows --arrived--> scattered to the device --> request told done
    save:  gathered into rows after the step --> store.save --> settled

No call waits for the store, but for four milliseconds where the step has nothing else to do.
"""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch

from tritium.backends.vllm.tiers.holdings import Change
from tritium.backends.vllm.tiers.layout import Layout
from tritium.backends.vllm.tiers.plan import Load, Loaded, RankReport, StepPlan
from tritium.backends.vllm.tiers.seat import Seat
from tritium.kv.stats import StoreStats
from tritium.kv.store import BlockStore
from tritium.kv.transfer import Transfer

_CHUNK_BYTES = 32 << 20
_IDLE_WAIT_S = 0.004
_STATS_EVERY_S = 1.0


@dataclass(slots=True)
class _Chunk:
    """Part of a load, as much as is moved at once."""

    load: "_Loading"
    names: list[bytes]
    blocks: list[int]
    rows: torch.Tensor | None = None
    transfer: Transfer | None = None


@dataclass(slots=True)
class _Loading:
    """A request that waits for its blocks."""

    request: str
    began_s: float = field(default_factory=time.perf_counter)
    ended_s: float = 0.0
    chunks: int = 0

    def arrived(self) -> None:
        """Note the time; called when some of its bytes have come, on a thread of the store."""
        self.ended_s = time.perf_counter()

    failed: set[int] = field(default_factory=set)


class Mover:
    """Moves the blocks of one worker process."""

    def __init__(self, layout: Layout, store: BlockStore, shape: bytes, rank: int, seat: Seat | None = None) -> None:
        """Move between these two; `shape` is what keys begin with. The mover closes store and seat."""
        self._layout = layout
        self._store = store
        self._shape = shape
        self._rank = rank
        self._seat = seat
        self._waiting: deque[_Chunk] = deque()
        self._moving: list[_Chunk] = []
        self._moving_bytes = 0
        self._done: set[str] = set()
        self._loaded: list[Loaded] = []
        self._failed_blocks: set[int] = set()
        self._saves: list[tuple[list[bytes], Transfer]] = []
        self._staged_bytes = 0
        self._settled: list[bytes] = []
        self._gatherer: ThreadPoolExecutor | None = None
        if layout.on_gpu:
            self._gatherer = ThreadPoolExecutor(1, "kv-gather")
        self._scattering: list[tuple[torch.cuda.Event, torch.Tensor]] = []
        self._began = 0.0
        self._began_event: torch.cuda.Event | None = None
        self._timings: deque[tuple[int, torch.cuda.Event, torch.cuda.Event]] = deque()
        self._learnt = False
        self._moved = False
        self._told_at = float("-inf")

    def begin_step(self) -> None:
        """Note that the model is about to run."""
        self._began = time.perf_counter()
        self._began_event = self._layout.mark(timed=True)

    def end_step(self, plan: StepPlan) -> None:
        """Learn how long the model ran, and save the blocks that it completed."""
        if plan.prefill:
            self._time_prefill(plan.tokens)
        if plan.saved_names:
            self._save(plan.saved_names, plan.saved_blocks)

    def load(self, loads: Sequence[Load]) -> None:
        """Begin to fetch blocks."""
        most = max(1, _CHUNK_BYTES // self._layout.block_bytes)
        for load in loads:
            loading = _Loading(load.request)
            for start in range(0, len(load.blocks), most):
                part = slice(start, start + most)
                self._waiting.append(_Chunk(loading, load.names[part], load.blocks[part]))
                loading.chunks += 1
        self._start_waiting()

    def look(self, *, idle: bool) -> set[str]:
        """Bring arrived blocks to the device; return the requests whose loads are over since the last call."""
        if idle:
            self._wait_a_little()
        self._scattering = [pair for pair in self._scattering if not pair[0].query()]  # type: ignore[no-untyped-call]
        for chunk in [chunk for chunk in self._moving if chunk.transfer is not None and chunk.transfer.done]:
            self._arrived(chunk)
        self._start_waiting()
        for blocks, transfer in [save for save in self._saves if save[1].done]:
            self._saves.remove((blocks, transfer))
            self._moved = True
            self._settled += blocks
            self._staged_bytes -= len(blocks) * self._layout.block_bytes
        done, self._done = self._done, set()
        return done

    def take_failed_blocks(self) -> set[int]:
        """Return the device's blocks that were to be loaded and were not, since the last call."""
        failed, self._failed_blocks = self._failed_blocks, set()
        return failed

    def report(self) -> RankReport | None:
        """Return what has changed since the last call; None where nothing has."""
        changes = [
            Change(event.key[len(self._shape) :], event.tier, event.stored)
            for event in self._store.events()
            if event.key.startswith(self._shape)
        ]
        settled, self._settled = self._settled, []
        loaded, self._loaded = self._loaded, []
        if not changes and not settled and not loaded and not self._learnt:
            return None
        advisor = self._store.advisor
        loads = {tier: line for tier, line in advisor.loads.items() if line.known} if self._learnt else {}
        prefill = advisor.prefill if self._learnt and advisor.prefill.known else None
        self._learnt = False
        return RankReport(self._rank, changes, settled, loads, loaded, prefill)

    def stats(self) -> StoreStats | None:
        """Return the store's counts, after a load or save was over and once a second."""
        now = time.monotonic()
        if not self._moved and now - self._told_at < _STATS_EVERY_S:
            return None
        self._told_at = now
        self._moved = False
        return self._store.stats()

    def close(self) -> None:
        """Let go of everything; what lies on disk and in object stores stays."""
        if self._gatherer is not None:
            self._gatherer.shutdown()
        self._store.close()
        if self._seat is not None:
            self._seat.close()

    def _keys(self, names: Sequence[bytes]) -> list[bytes]:
        return [self._shape + name for name in names]

    def _start_waiting(self) -> None:
        """Begin loads up to half of what the store takes at once, so that none is refused."""
        most = self._store.settings.load_bytes_in_flight // 2
        while self._waiting:
            size_bytes = len(self._waiting[0].blocks) * self._layout.block_bytes
            if self._moving and self._moving_bytes + size_bytes > most:
                return
            chunk = self._waiting.popleft()
            chunk.rows = self._layout.rows(len(chunk.blocks))
            chunk.transfer = self._store.load(self._keys(chunk.names), _views(chunk.rows))
            chunk.transfer.on_done(chunk.load.arrived)
            self._moving.append(chunk)
            self._moving_bytes += size_bytes

    def _arrived(self, chunk: _Chunk) -> None:
        assert chunk.rows is not None
        assert chunk.transfer is not None
        self._moving.remove(chunk)
        self._moving_bytes -= len(chunk.blocks) * self._layout.block_bytes
        failed = chunk.transfer.failed
        if len(failed) < len(chunk.blocks):
            # Rows that did not arrive go along: vLLM computes their blocks before it reads them.
            event = self._layout.scatter(chunk.rows, chunk.blocks)
            if event is not None:
                self._scattering.append((event, chunk.rows))
        self._failed_blocks.update(chunk.blocks[place] for place in failed)
        self._learnt = self._moved = True
        chunk.load.chunks -= 1
        if not chunk.load.chunks:
            self._done.add(chunk.load.request)
            self._loaded.append(Loaded(chunk.load.request, chunk.load.ended_s - chunk.load.began_s))

    def _save(self, names: list[bytes], blocks: list[int]) -> None:
        size_bytes = len(blocks) * self._layout.block_bytes
        if self._staged_bytes + size_bytes > self._store.settings.save_bytes_in_flight:
            # More is on its way than the store takes: these are not saved, and may be another time.
            self._settled += names
            return
        self._staged_bytes += size_bytes
        rows, gathered = self._layout.gather(blocks)
        if gathered is None:
            self._saves.append((names, self._store.save(self._keys(names), _views(rows))))
            return
        assert self._gatherer is not None
        saved = Transfer(len(names))
        saved.begin(1)
        self._saves.append((names, saved))
        self._gatherer.submit(self._save_gathered, gathered, rows, names, saved)

    def _save_gathered(
        self, gathered: "torch.cuda.Event", rows: torch.Tensor, names: list[bytes], saved: Transfer
    ) -> None:
        """Save rows once the GPU has filled them; on a thread of its own, for no step comes when all is idle."""
        gathered.synchronize()
        transfer = self._store.save(self._keys(names), _views(rows))
        transfer.on_done(lambda: saved.part_done(transfer.failed))

    def _time_prefill(self, tokens: int) -> None:
        if self._began_event is None:
            self._store.learn_prefill(tokens, time.perf_counter() - self._began)
            self._learnt = True
            return
        ended = self._layout.mark(timed=True)
        assert ended is not None
        self._timings.append((tokens, self._began_event, ended))
        while self._timings and self._timings[0][2].query():  # type: ignore[no-untyped-call]
            past_tokens, began, ended = self._timings.popleft()
            self._store.learn_prefill(past_tokens, began.elapsed_time(ended) / 1000)
            self._learnt = True

    def _wait_a_little(self) -> None:
        """Wait for what is under way instead of running empty steps as fast as they go."""
        under_way = [chunk.transfer for chunk in self._moving] or [transfer for _, transfer in self._saves]
        if under_way and under_way[0] is not None:
            under_way[0].wait(_IDLE_WAIT_S)


def _views(rows: torch.Tensor) -> list[memoryview]:
    return [memoryview(row) for row in rows.numpy()]
