"""A worker that this front did not start: reached where discovery says it is, again and again while it is there.

    STARTING --greeted, Ready--> READY --connection lost--> WAITING --back-off, greeted, Ready--> READY ...
                                   |                           |
                                   +--Draining--> DRAINING     +--withdrawn--> STOPPED
                                                     +--connection lost------> STOPPED

The connection is the better witness: a worker that discovery has lost sight of stays while it talks to us.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
import structlog

from tritium.backends.engine import EngineInfo, MetricFamily, Pooled, Role, Step
from tritium.cluster.card import Instance
from tritium.cluster.channel import Channel
from tritium.cluster.frames import (
    CacheChanged,
    CacheDump,
    DrainHeard,
    Draining,
    Elsewhere,
    FromWorker,
    Gauges,
    LoraDone,
    OwnMetrics,
    Ping,
    Ready,
    RoleAnswer,
    RoleTaken,
    ToWorker,
)
from tritium.cluster.lora_calls import LoraCalls
from tritium.cluster.member import Reports, WorkerState
from tritium.cluster.own_metrics import LastMetrics
from tritium.cluster.plane.address import parse_address
from tritium.cluster.plane.connection import connect
from tritium.cluster.plane.greeting import Greeted, Unreachable
from tritium.cluster.plane.security import PlaneSecurity
from tritium.cluster.pulse import Pulse
from tritium.cluster.role_calls import RoleCalls
from tritium.core.errors import InferenceError

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0
PROVEN_S = 10.0
"""A connection that held for so long is made again without delay."""

READY_S = 10.0
"""How long a worker that has greeted may take to say that it is ready; its engine has loaded before."""

log = structlog.get_logger(__name__)


class RemoteWorker:
    """A PoolWorker (see `cluster.member`) that discovery has found.

    `on_gone` is called when it is not coming back: it drained, or was lost and is announced no more. Each connection
    brings it to the adapters in `loras`.
    """

    def __init__(
        self,
        instance: Instance,
        security: PlaneSecurity,
        reports: Reports,
        *,
        front: str,
        loras: Mapping[str, str],
        silent_s: float,
        load_s: float,
        on_gone: Callable[["RemoteWorker"], None],
    ) -> None:
        self.instance = instance
        self.name = instance.worker
        self.role = instance.role
        self.state = WorkerState.STARTING
        self.info: EngineInfo | None = None
        self.restarts = 0
        self.run = instance.run
        self.hung = 0
        self.gauges: dict[str, float] = {}
        self.announced = True
        self.trouble = ""
        """Why it cannot be reached now; empty while it can."""
        self._security = security
        self._reports = reports
        self._front = front
        self._loras = loras
        self._on_gone = on_gone
        self._metrics = LastMetrics(self.name)
        self._channel: Channel[FromWorker] | None = None
        self._ready: asyncio.Future[EngineInfo] | None = None
        self._lost = asyncio.Event()
        self._nudge = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._silent_s = silent_s
        self._pulse = Pulse(
            silent_s,
            ping=lambda: self.send(Ping()),
            on_silent=self._silent,
            on_missed=lambda beats: reports.on_missed(self, beats),
        )
        self._verdict = ""
        self._lora_calls = LoraCalls(self.name, self.send, load_s)
        self.roles = RoleCalls(self.name, self.send)
        """Asks it for another role."""
        self._role_number = instance.role_number

    @property
    def ready(self) -> bool:
        """Tell whether the worker takes requests."""
        return self.state is WorkerState.READY

    @property
    def connected(self) -> bool:
        """Tell whether it talks to us."""
        return self.state in (WorkerState.READY, WorkerState.DRAINING)

    @property
    def own_metrics(self) -> list[MetricFamily]:
        """Return the metrics that the engine keeps itself, as it last told them."""
        return self._metrics.read()

    def start(self) -> None:
        """Begin to reach it, and go on until it is gone."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    def announce(self, instance: Instance | None) -> None:
        """Note what discovery has of it; one that is neither announced (None) nor connected is gone."""
        self.announced = instance is not None
        if instance is not None:
            self._learn_role(instance.role, instance.role_number)
        self._nudge.set()

    def send(self, *frames: ToWorker) -> None:
        """Send frames in one write; they are dropped when the worker is gone, of which `on_lost` tells."""
        if self._channel is not None:
            self._channel.send(*frames)

    async def load_lora(self, name: str, path: str) -> None:
        """Load an adapter, by a path on the worker's machine; raises as `LoraCalls.load` does."""
        await self._lora_calls.load(name, path)

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter; raises as `LoraCalls.load` does."""
        await self._lora_calls.unload(name)

    async def stop(self, grace_s: float) -> None:  # noqa: ARG002  nothing of ours runs there any more
        """Leave the worker; it goes on for others."""
        was_connected = self.connected
        self.state = WorkerState.STOPPED
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        self._pulse.stop()
        if self._channel is not None:
            self._channel.close()
        if was_connected:
            self._reports.on_lost(self, "this front has left it")

    async def _keep(self) -> None:
        """Be connected as long as the worker is there."""
        backoff_s = FIRST_BACKOFF_S
        while self.announced:
            try:
                await self._connect()
            except InferenceError as error:
                if error.message != self.trouble:
                    log.warning("worker_unreachable", worker=self.name, address=self.instance.address, error=error.told)
                self.trouble = error.message
                # Fronts that lost the same worker do not come back in step.
                await self._rest(backoff_s * random.uniform(0.7, 1.3))  # noqa: S311  no secret is made of it
                backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)
                continue
            self.trouble = ""
            began_s = time.monotonic()
            await self._lost.wait()
            if self.state is WorkerState.STOPPED:
                break
            self.restarts += 1
            if time.monotonic() - began_s > PROVEN_S:
                backoff_s = FIRST_BACKOFF_S
            else:
                # It lets us in and loses us again: no reason to be back at once.
                await self._rest(backoff_s)
                backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)
        self.state = WorkerState.STOPPED
        self._on_gone(self)

    async def _rest(self, seconds: float) -> None:
        """Wait, unless something is heard of the worker."""
        self._nudge.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._nudge.wait(), seconds)

    async def _connect(self) -> None:
        """Reach the worker and wait until it is ready.

        Raises:
            InferenceError: it cannot be reached, or is another one.
        """
        self._lost.clear()
        self._verdict = ""
        self._ready = asyncio.get_running_loop().create_future()
        address = parse_address(self.instance.address)
        greeted = await connect(address, self._security, "work", self._front, self._open)
        try:
            if greeted.run != self.instance.run:
                raise Unreachable(f"at {address} is another worker by now, '{greeted.worker}'")
            async with asyncio.timeout(READY_S):
                self.info = await self._ready
                self._check(self.info)
                await self._lora_calls.bring_up_to(self._loras)
        except TimeoutError:
            self._hang_up()
            raise Unreachable(f"it greeted and did not get ready within {READY_S:g} s") from None
        except InferenceError:
            self._hang_up()
            raise
        self.state = WorkerState.READY
        log.info("worker_ready", worker=self.name, address=self.instance.address)
        self._pulse.start()
        self._reports.on_ready(self)

    def _check(self, info: EngineInfo) -> None:
        """Hold the worker to its card.

        Raises:
            Unreachable: its engine is another one than it announced.
        """
        card = self.instance.card
        if difference := card.differs(msgspec.structs.replace(card, info=info)):
            raise Unreachable(f"it is not what it announced: {difference}")

    def _open(self, _greeted: Greeted) -> Channel[FromWorker]:
        channel: Channel[FromWorker] = Channel(FromWorker, self._take, lambda error: self._closed(channel, error))
        self._channel = channel
        return channel

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._channel.abort()
            self._channel = None

    def _take(self, frame: FromWorker) -> None:
        self._pulse.heard()
        match frame:
            case Step() | Pooled() | CacheChanged() | CacheDump() | Elsewhere():
                if self.connected:
                    self._reports.on_frame(self, frame)
            case Gauges(values):
                self.gauges = values
                if self.ready:
                    self._reports.on_frame(self, frame)
            case OwnMetrics():
                self._metrics.take(frame)
            case LoraDone():
                self._lora_calls.answered(frame)
            case RoleTaken(role, number):
                self._learn_role(role, number)
            case RoleAnswer():
                self.roles.answered(frame)
            case Ready(info):
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(info)
            case Draining():
                self._drain()

    def _learn_role(self, role: Role, number: int) -> None:
        """Take what the worker, or discovery, says of its role; the older word of the two does not count."""
        if number > self._role_number:
            self._role_number = number
            self._reports.on_role(self, role)

    def _drain(self) -> None:
        """Give it nothing new, and say so."""
        if self.ready:
            self.state = WorkerState.DRAINING
            log.info("worker_draining", worker=self.name)
            self._reports.on_draining(self)
        self.send(DrainHeard())

    def _silent(self) -> None:
        """Give up a connection over which nothing comes; the worker drops what it did for us."""
        self._verdict = f"it gave no sign of life for {self._silent_s:g} s"
        self.hung += 1
        channel = self._channel
        if channel is not None:
            channel.abort()
            self._closed(channel, None)

    def _closed(self, channel: Channel[FromWorker], error: Exception | None) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        reason = self._verdict or f"the connection ended{f': {error}' if error else ''}"
        self._lora_calls.lost(reason)
        self.roles.lost(reason)
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(Unreachable(reason))
        if not self.connected:
            return
        drained = self.state is WorkerState.DRAINING
        self.state = WorkerState.STOPPED if drained else WorkerState.WAITING
        self._pulse.stop()
        self._metrics.forget()
        if drained:
            log.info("worker_left", worker=self.name)
        else:
            log.error("worker_lost", worker=self.name, reason=reason)
        self._reports.on_lost(self, reason)
        self._lost.set()
