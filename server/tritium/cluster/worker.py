"""A worker process: one engine, fed and read over a socket that it inherits.

    python -m tritium.cluster.worker --fd N --scratch FOLDER      (started by cluster.process, not by hand)

    LOADING --ok--> SERVING --Drain--> DRAINING --idle or grace over--> end
       |               |                   |
       +---------------+---- peer gone ----+--> end

It leads a process group of its own, so that whatever the engine started can be ended with it. A thread watches the
socket: when the server dies, also in the middle of loading, nothing of the worker outlives it by long.
"""

import argparse
import asyncio
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from tritium.backends.engine import (
    AdaptableEngine,
    Delta,
    EngineInfo,
    EngineSinks,
    EngineSource,
    FinishReason,
    Generate,
    KvEvent,
    LanguageEngine,
    MeteredEngine,
    Pool,
    Pooled,
    PoolingEngine,
    Step,
)
from tritium.cluster.channel import UNSENDABLE, Channel
from tritium.cluster.frames import (
    VERSION,
    Abort,
    Drain,
    Events,
    Failed,
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
    ToWorker,
    UnloadLora,
)
from tritium.core.errors import InferenceError, InvalidArgument, NotFound

GAUGES_EVERY_S = 1.0
OWN_METRICS_EVERY_S = 5.0
"""How often an engine that works is asked for the metrics it keeps itself, which are many."""

ORPHAN_GRACE_S = 10.0
"""How long a worker may take to end by itself once its server is gone."""


class Worker:
    """The engine and its side of the connection."""

    def __init__(self, scratch: str) -> None:
        self.scratch = scratch
        self.channel: Channel[ToWorker] = Channel(ToWorker, self._take, lambda _: self.ended.set())
        self.ended = asyncio.Event()
        self.exit_status = 0
        self._engine: LanguageEngine | None = None
        self._active: set[int] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._gauges: dict[str, float] = {}
        self._gauges_due: asyncio.TimerHandle | None = None
        self._own_metrics_sent_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def _take(self, frame: ToWorker) -> None:
        match frame:
            case Submit(request):
                self._submit(request)
            case SubmitPool(request):
                self._pool(request)
            case Abort(id):
                assert self._engine is not None
                self._engine.abort(id)
                self._over(id)
            case Ping():
                self.channel.send(Pong())
            case LoadLora() | UnloadLora():
                self._spawn(self._adapt(frame))
            case Load():
                self._spawn(self._load(frame))
            case Drain(grace_s):
                self._spawn(self._drain(grace_s))

    def _submit(self, request: Generate) -> None:
        """Hand a generation to the engine; one that the engine chokes on fails alone."""
        assert self._engine is not None
        self._active.add(request.id)
        self._idle.clear()
        try:
            self._engine.submit(request)
        except Exception as error:  # noqa: BLE001  an engine may raise anything; the other requests here go on
            self._step(Step([Delta(request.id, [], finish=FinishReason.ERROR, error=_words(error))]))

    def _pool(self, request: Pool) -> None:
        """Hand a prompt to the engine to pool; one that the engine chokes on fails alone."""
        self._active.add(request.id)
        self._idle.clear()
        try:
            # The fleet asks only for what the engine's info offers; so with adapters below.
            cast("PoolingEngine", self._engine).pool(request)
        except Exception as error:  # noqa: BLE001  as above
            self._pooled(Pooled(request.id, error=_words(error)))

    async def _load(self, load: Load) -> None:
        try:
            info = await self._open(load)
        except Exception as error:  # noqa: BLE001  an engine may raise anything; its words go to the operator
            self.exit_status = 1
            self.channel.send(Failed(_words(error)))
            self.channel.close()
            self.ended.set()
            return
        self.channel.send(Ready(info))
        self._send_gauges()

    async def _open(self, load: Load) -> EngineInfo:
        if load.version != VERSION:
            raise InferenceError(f"the worker speaks frames of version {VERSION}, its server of version {load.version}")
        opened: LanguageEngine = _engine(load.engine)(
            EngineSource(
                Path(load.folder), load.arguments, load.role, load.worker, load.index, load.workers, self.scratch
            )
        )
        self._engine = opened
        return await opened.start(EngineSinks(self._step, self._events, self._died, self._pooled))

    async def _adapt(self, frame: LoadLora | UnloadLora) -> None:
        engine = cast("AdaptableEngine", self._engine)
        done = LoraDone(frame.id)
        try:
            if isinstance(frame, LoadLora):
                await engine.load_lora(frame.name, frame.path)
            else:
                await engine.unload_lora(frame.name)
        except Exception as error:  # noqa: BLE001  an engine may raise anything; its words go to the operator
            done = LoraDone(frame.id, _words(error), isinstance(error, InvalidArgument))
        self.channel.send(done)

    def _step(self, step: Step) -> None:
        try:
            self.channel.send(step)
        except UNSENDABLE:
            for delta in step.deltas:
                self._send_alone(delta)
        for delta in step.deltas:
            if delta.finish is not None:
                self._over(delta.id)
        self._look_at_gauges()

    def _send_alone(self, delta: Delta) -> None:
        """Send what one sequence gained; where it cannot be sent, that sequence ends, and no other."""
        try:
            self.channel.send(Step([delta]))
        except UNSENDABLE as error:
            assert self._engine is not None
            self._engine.abort(delta.id)
            words = f"what the engine made of the request cannot be sent: {error}"
            self.channel.send(Step([Delta(delta.id, [], FinishReason.ERROR, error=words, invalid=True)]))
            self._over(delta.id)

    def _pooled(self, pooled: Pooled) -> None:
        try:
            self.channel.send(pooled)
        except UNSENDABLE as error:
            words = f"what the engine made of the prompt cannot be sent: {error}"
            self.channel.send(Pooled(pooled.id, error=words, invalid=True))
        self._over(pooled.id)
        self._look_at_gauges()

    def _look_at_gauges(self) -> None:
        if self._gauges_due is None:
            self._gauges_due = asyncio.get_running_loop().call_later(GAUGES_EVERY_S, self._send_gauges)

    def _events(self, events: list[KvEvent]) -> None:
        self.channel.send(Events(events))

    def _died(self, reason: str) -> None:
        """End at once, so that what ran here goes on elsewhere; the server sweeps away what the engine left."""
        sys.stderr.write(f"{reason}\n")
        sys.stderr.flush()
        os._exit(1)

    def _send_gauges(self) -> None:
        """Send the counters when they changed, and look again in a while for as long as they do."""
        self._gauges_due = None
        assert self._engine is not None
        values = self._engine.metrics()
        changed = values != self._gauges
        # What came last is told once the engine rests; until then now and then.
        if not changed or time.monotonic() - self._own_metrics_sent_s > OWN_METRICS_EVERY_S:
            self._send_own_metrics()
        if not changed:
            return
        self._gauges = dict(values)
        self.channel.send(Gauges(self._gauges))
        self._gauges_due = asyncio.get_running_loop().call_later(GAUGES_EVERY_S, self._send_gauges)

    def _send_own_metrics(self) -> None:
        if isinstance(self._engine, MeteredEngine):
            self._own_metrics_sent_s = time.monotonic()
            self.channel.send(OwnMetrics(msgspec.Raw(msgspec.msgpack.encode(self._engine.own_metrics()))))

    def _over(self, id: int) -> None:  # noqa: A002  the engine contract's name
        self._active.discard(id)
        if not self._active:
            self._idle.set()

    async def _drain(self, grace_s: float) -> None:
        try:
            if self._active:
                await asyncio.wait_for(self._idle.wait(), grace_s)
        except TimeoutError:
            sys.stderr.write(f"drain: {len(self._active)} sequences cut after {grace_s:g} s\n")
        self.ended.set()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Free the engine and say goodbye."""
        if self._gauges_due is not None:
            self._gauges_due.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        if self._engine is not None:
            await self._engine.stop()
        self.channel.close()


def _engine(name: str) -> Callable[[EngineSource], LanguageEngine]:
    """Find an engine by its entry point, or by "package.module:Class".

    Raises:
        NotFound: no such engine is installed.
    """
    engines = entry_points(group="tritium.engines")
    if name in engines.names:
        point = engines[name]
    elif ":" in name:
        point = EntryPoint(name, name, "tritium.engines")
    else:
        raise NotFound(f"no engine '{name}' is installed", hint=f"there are {', '.join(sorted(engines.names))}")
    engine: Callable[[EngineSource], LanguageEngine] = point.load()
    return engine


def _words(error: Exception) -> str:
    if isinstance(error, InferenceError):
        return error.told
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _end_with_peer(connection: socket.socket, scratch: str) -> None:
    """Wait until the server's end of the socket is gone; then end this process group, by force if need be."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    poll.poll()
    time.sleep(ORPHAN_GRACE_S)
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


async def serve(connection: socket.socket, scratch: str) -> int:
    """Serve one engine over the socket until it ends; return the exit status."""
    loop = asyncio.get_running_loop()
    worker = Worker(scratch)
    loop.add_signal_handler(signal.SIGTERM, worker.ended.set)
    await loop.create_connection(lambda: worker.channel, sock=connection)
    await worker.ended.wait()
    await worker.stop()
    shutil.rmtree(scratch, ignore_errors=True)
    return worker.exit_status


def main() -> None:
    """Run a worker process."""
    parser = argparse.ArgumentParser(prog="tritium.cluster.worker")
    parser.add_argument("--fd", type=int, required=True, help="the inherited socket to the server")
    parser.add_argument("--scratch", required=True, help="a folder that goes with the worker")
    arguments = parser.parse_args()
    # A group of its own, to be ended whole, but in its server's session: Linux shares processors out among sessions
    # first (autogroup), and beside an engine that spins in another one the server would wait for its turn.
    os.setpgid(0, 0)
    connection = socket.socket(fileno=arguments.fd)
    # Ctrl-C in a terminal is the server's to handle: it drains its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched = (connection.dup(), arguments.scratch)
    threading.Thread(target=_end_with_peer, args=watched, name="end-with-peer", daemon=True).start()
    status = uvloop.run(serve(connection, arguments.scratch))
    sys.stdout.flush()
    sys.stderr.flush()
    # The engine has freed what it held; taking a big library down object by object would only cost seconds.
    os._exit(status)


if __name__ == "__main__":
    main()
