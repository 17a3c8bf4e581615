"""An engine at work in this process, and the peers it works for: the server of a worker process, or several fronts.

    open -> join(peer) -> take(peer, frame) ... -> leave(peer): what it had asked for is aborted
                       `- Steps, Pooled to whom they belong; CacheChanged, Gauges, OwnMetrics to all
    drain -> stop

Every peer counts its requests by itself; the engine knows them by numbers that are given here.
"""

import asyncio
import itertools
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tritium.backends.engine import (
    GENERATE,
    AdaptableEngine,
    Delta,
    EngineInfo,
    EngineSinks,
    EngineSource,
    FinishReason,
    Generate,
    KvEvent,
    LanguageEngine,
    Pool,
    Pooled,
    PoolingEngine,
    Step,
    SteppingEngine,
)
from tritium.backends.transfer.paths import prepare_path
from tritium.cluster.channel import UNSENDABLE
from tritium.cluster.engines import find_engine, words_of
from tritium.cluster.frames import (
    VERSION,
    Abort,
    AskCache,
    CacheChanged,
    CacheDump,
    FromWorker,
    Gauges,
    Load,
    LoadLora,
    LoraDone,
    OwnMetrics,
    Ping,
    Pong,
    Ready,
    Submit,
    SubmitPool,
    UnloadLora,
)
from tritium.cluster.gauges import EngineGauges
from tritium.cluster.heartbeat import STUCK_STATUS, Heartbeat
from tritium.cluster.mirror import CacheMirror
from tritium.cluster.workload import Workload
from tritium.core.errors import InferenceError, InvalidArgument

CANARY_TOKEN = 1
"""Its id is in every vocabulary."""

Asked = Submit | SubmitPool | Abort | LoadLora | UnloadLora | AskCache | Ping
"""The frames that a peer has the engine do something by."""


class Peer:
    """One for whom the engine works; `send` raises as `Channel.send` does."""

    __slots__ = ("changes_here", "numbers", "send")

    def __init__(self, send: Callable[[FromWorker], None]) -> None:
        self.send = send
        self.changes_here = True
        """Changes of the cache are told it by `send`."""
        self.numbers: dict[int, int] = {}
        """The engine's number of each request under way, by the peer's own."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An engine that has loaded, what is kept of its cache, its work and its counters, and what watches over it."""

    engine: LanguageEngine
    mirror: CacheMirror
    workload: Workload
    gauges: EngineGauges
    heartbeat: Heartbeat


class EngineRunner:
    """The engine and what it has to do. `on_death` is told why it cannot go on; the process has to end then."""

    def __init__(self, scratch: str, on_death: Callable[[str], None]) -> None:
        self.scratch = scratch
        self.info: EngineInfo | None = None
        self.publish: Callable[[CacheChanged], None] | None = None
        """Tells changes of the cache to those who have them not by their connection."""
        self.more_gauges: Callable[[], Mapping[str, float]] = dict
        """What else is to be told beside the engine's counters."""
        self._on_death = on_death
        self._engine: LanguageEngine | None = None
        """Opened; it may still be loading."""
        self._loaded: _Loaded | None = None
        self._calls = 0
        """How often the engine had something to say: its steps, where it does not count them itself."""
        self._canaries: set[int] = set()
        self._canaries_sent = 0
        self._peers: set[Peer] = set()
        self._owners: dict[int, tuple[Peer, int]] = {}
        self._numbers = itertools.count(1)
        self._idle = asyncio.Event()
        self._idle.set()
        self._early: list[KvEvent] = []
        """What the engine has told of its cache before it has loaded."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> int:
        """Return how many requests are under way."""
        return len(self._owners)

    @property
    def _work(self) -> _Loaded:
        """Return what there is from the end of `open` on."""
        assert self._loaded is not None
        return self._loaded

    async def open(self, load: Load) -> EngineInfo:
        """Load the engine; called once.

        Raises:
            Exception: an engine may raise anything; `words_of` has what the operator is told.
        """
        if load.version != VERSION:
            raise InferenceError(f"the worker speaks frames of version {VERSION}, its server of version {load.version}")
        if load.mixed:
            prepare_path(load.path)
        opened: LanguageEngine = find_engine(load.engine)(
            EngineSource(
                Path(load.folder),
                load.arguments,
                load.role,
                load.worker,
                load.index,
                load.workers,
                load.mixed,
                load.path,
                load.check_transfer,
                load.host,
                self.scratch,
            )
        )
        self._engine = opened
        info = await opened.start(EngineSinks(self._step, self._events, self._on_death, self._pooled))
        mirror = CacheMirror(info.block_tokens, info.total_blocks)
        heartbeat = Heartbeat(
            load.stuck_s,
            load.canary_s,
            steps=(lambda: opened.steps) if isinstance(opened, SteppingEngine) else lambda: self._calls,
            working=lambda: bool(self._owners or self._canaries),
            canary=self._canary,
            on_stuck=lambda: end_at_once(
                f"the engine made no step for {load.stuck_s:g} s though it had work", STUCK_STATUS
            ),
        )
        self._loaded = _Loaded(
            opened,
            mirror,
            Workload(mirror, info.block_tokens),
            EngineGauges(opened, mirror, more=self._counted_here, tell=self._tell_all),
            heartbeat,
        )
        self._events(self._early)
        self._early = []
        self.info = info
        return info

    def join(self, peer: Peer) -> None:
        """Work for a peer from now on, which is told that the engine is ready."""
        assert self.info is not None
        self._peers.add(peer)
        self._work.heartbeat.start()
        peer.send(Ready(self.info))
        self._work.workload.join(peer)
        self._work.gauges.tell_anew()

    def leave(self, peer: Peer) -> None:
        """Drop what a peer has asked for, and forget it. Harmless when repeated."""
        self._peers.discard(peer)
        if self._loaded is not None:
            self._loaded.workload.leave(peer)
        for own in list(peer.numbers):
            self._abort(peer, own)

    def take(self, peer: Peer, frame: Asked) -> None:
        """Do what a peer asks for."""
        match frame:
            case Submit(request):
                self._submit(peer, request)
            case SubmitPool(request):
                self._pool(peer, request)
            case Abort(id):
                self._abort(peer, id)
            case AskCache(changes_here):
                peer.changes_here = changes_here or self.publish is None
                peer.send(CacheDump(self._work.mirror.dump()))
            case Ping():
                peer.send(Pong())
            case LoadLora() | UnloadLora():
                self._spawn(self._adapt(peer, frame))

    async def drain(self, grace_s: float) -> None:
        """Wait until nothing is under way, for so long at most."""
        try:
            async with asyncio.timeout(grace_s):
                while self.active:
                    await self._idle.wait()
        except TimeoutError:
            sys.stderr.write(f"drain: {self.active} sequences cut after {grace_s:g} s\n")

    async def stop(self) -> None:
        """Free the engine."""
        if self._loaded is not None:
            self._loaded.heartbeat.stop()
            self._loaded.gauges.stop()
        for task in tuple(self._tasks):
            task.cancel()
        if self._engine is not None:
            await self._engine.stop()

    # What peers ask for.

    def _submit(self, peer: Peer, request: Generate) -> None:
        """Hand a generation to the engine; one that the engine chokes on fails alone."""
        work = self._work
        request.id = self._begin(peer, request.id)
        work.workload.begin(request.id, peer, request)
        try:
            work.engine.submit(request)
        except Exception as error:  # noqa: BLE001  an engine may raise anything; the other requests here go on
            self._step(Step([Delta(request.id, [], finish=FinishReason.ERROR, error=words_of(error))]))

    def _pool(self, peer: Peer, request: Pool) -> None:
        """Hand a prompt to the engine to pool; one that the engine chokes on fails alone."""
        request.id = self._begin(peer, request.id)
        try:
            # The fleet asks only for what the engine's info offers; so with adapters below.
            cast("PoolingEngine", self._engine).pool(request)
        except Exception as error:  # noqa: BLE001  as above
            self._pooled(Pooled(request.id, error=words_of(error)))

    def _abort(self, peer: Peer, own: int) -> None:
        number = peer.numbers.get(own)
        if number is not None:
            self._work.engine.abort(number)
            self._over(number)

    async def _adapt(self, peer: Peer, frame: LoadLora | UnloadLora) -> None:
        engine = cast("AdaptableEngine", self._engine)
        done = LoraDone(frame.id)
        try:
            if isinstance(frame, LoadLora):
                await engine.load_lora(frame.name, frame.path)
            else:
                await engine.unload_lora(frame.name)
        except Exception as error:  # noqa: BLE001  an engine may raise anything; its words go to the operator
            done = LoraDone(frame.id, words_of(error), isinstance(error, InvalidArgument))
        peer.send(done)

    def _begin(self, peer: Peer, own: int) -> int:
        number = next(self._numbers)
        self._owners[number] = (peer, own)
        peer.numbers[own] = number
        self._idle.clear()
        return number

    def _canary(self) -> None:
        """Ask the idle engine for a token, with a prompt too short to stay in any cache; nobody waits for it."""
        assert self.info is not None
        if GENERATE in self.info.tasks and self.info.computes_prompts:
            number = next(self._numbers)
            self._canaries.add(number)
            self._canaries_sent += 1
            try:
                self._work.engine.submit(Generate(number, [CANARY_TOKEN], {"max_tokens": 1, "temperature": 0.0}))
            except Exception:  # noqa: BLE001  an engine that refuses is awake, whatever its reasons
                self._canaries.discard(number)

    def _over(self, number: int) -> None:
        if owner := self._owners.pop(number, None):
            self._work.workload.over(number)
            peer, own = owner
            peer.numbers.pop(own, None)
            if not self._owners:
                self._idle.set()

    # What the engine tells.

    def _step(self, step: Step) -> None:
        """Give every peer what its sequences gained."""
        workload = self._work.workload
        self._calls += 1
        shares: dict[Peer, list[Delta]] = {}
        for delta in step.deltas:
            number = delta.id
            owner = self._owners.get(number)
            if owner is None:
                self._canaries.discard(number)
                continue
            peer, delta.id = owner
            if delta.cached_tokens is not None:
                workload.first_token(number)
            shares.setdefault(peer, []).append(delta)
            if delta.finish is not None:
                self._over(number)
        workload.flush()
        for peer, deltas in shares.items():
            self._send_step(peer, Step(deltas, step.running, step.waiting, step.used_blocks))
        self._work.gauges.look()

    def _send_step(self, peer: Peer, step: Step) -> None:
        try:
            peer.send(step)
        except UNSENDABLE:
            for delta in step.deltas:
                self._send_alone(peer, delta)

    def _send_alone(self, peer: Peer, delta: Delta) -> None:
        """Send what one sequence gained; where it cannot be sent, that sequence ends, and no other."""
        try:
            peer.send(Step([delta]))
        except UNSENDABLE as error:
            self._abort(peer, delta.id)
            words = f"what the engine made of the request cannot be sent: {error}"
            peer.send(Step([Delta(delta.id, [], FinishReason.ERROR, error=words, invalid=True)]))

    def _pooled(self, pooled: Pooled) -> None:
        self._calls += 1
        owner = self._owners.get(pooled.id)
        if owner is not None:
            self._over(pooled.id)
            peer, pooled.id = owner
            try:
                peer.send(pooled)
            except UNSENDABLE as error:
                words = f"what the engine made of the prompt cannot be sent: {error}"
                peer.send(Pooled(pooled.id, error=words, invalid=True))
        self._work.gauges.look()

    def _events(self, events: list[KvEvent]) -> None:
        if self._loaded is None:
            self._early += events
        elif (changed := self._loaded.mirror.take(events)) is not None:
            for peer in self._peers:
                if peer.changes_here:
                    peer.send(changed)
            if self.publish is not None:
                self.publish(changed)

    def _counted_here(self) -> Mapping[str, float]:
        return {"tritium_worker_canaries_total": float(self._canaries_sent), **self.more_gauges()}

    def _tell_all(self, frame: Gauges | OwnMetrics) -> None:
        for peer in self._peers:
            peer.send(frame)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def end_at_once(reason: str, status: int = 1) -> None:
    """End this process, so that what ran here goes on elsewhere."""
    sys.stderr.write(f"{reason}\n")
    sys.stderr.flush()
    os._exit(status)
