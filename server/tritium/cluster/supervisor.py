"""One worker of a fleet, kept alive.

    STARTING --Ready--> READY --lost--> WAITING --back-off--> STARTING ...
        |                 |                ^
        |                 |   died loading |
        +-----------------|----------------+     (at the very first start: the error is raised instead)
                          |
                          +--stop--> DRAINING --> STOPPED      (from any state)

A worker that is READY and gives no sign of life is lost (`cluster.pulse`), and killed. One whose engine makes no step
ends itself (`cluster.heartbeat`). Lost is told at once, before anybody waits for the process.
The way back to READY always leads through a fresh process.
"""

import asyncio
import time
from collections.abc import Mapping

import structlog

from tritium.backends.engine import EngineInfo, MetricFamily, Pooled, Step
from tritium.cluster.frames import (
    CacheChanged,
    CacheDump,
    Drain,
    Elsewhere,
    Failed,
    FromWorker,
    Gauges,
    Load,
    LoraDone,
    OwnMetrics,
    Ping,
    Ready,
    ToWorker,
)
from tritium.cluster.heartbeat import STUCK_STATUS
from tritium.cluster.lora_calls import LoraCalls
from tritium.cluster.member import Reports, WorkerState
from tritium.cluster.own_metrics import LastMetrics
from tritium.cluster.process import WorkerProcess
from tritium.cluster.pulse import Pulse
from tritium.core.errors import ModelFailed, WorkerLost

FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 30.0
PROVEN_S = 60.0
"""A worker that served this long starts again without back-off."""

END_S = 15.0
"""How long a drained worker may take to free its engine and end."""

log = structlog.get_logger(__name__)


class SupervisedWorker:
    """A PoolWorker (see `cluster.member`) that is started again whenever it dies.

    Each run has the adapters in `loras` (path by name), as they are when it gets ready.
    """

    def __init__(
        self,
        load: Load,
        reports: Reports,
        *,
        loras: Mapping[str, str],
        silent_s: float = 0.0,
        load_s: float = 0.0,
    ) -> None:
        self.load = load
        self.loras = loras
        self.name = load.worker
        self.role = load.role
        self.state = WorkerState.STARTING
        self.info: EngineInfo | None = None
        self.restarts = 0
        self.run = ""
        self.hung = 0
        self.gauges: dict[str, float] = {}
        self._metrics = LastMetrics(self.name)
        self._reports = reports
        self._process: WorkerProcess | None = None
        self._loaded: asyncio.Future[EngineInfo] | None = None
        self._lost: asyncio.Event = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._pulse = Pulse(
            silent_s,
            ping=lambda: self.send(Ping()),
            on_silent=self._silent,
            on_missed=lambda beats: reports.on_missed(self, beats),
        )
        self._silent_s = silent_s
        self._load_s = load_s
        self._verdict = ""
        self._lora_calls = LoraCalls(self.name, self.send, load_s)

    @property
    def ready(self) -> bool:
        """Tell whether the worker takes requests."""
        return self.state is WorkerState.READY

    @property
    def pid(self) -> int:
        """Return the process id of the present run, 0 where there is none, or none yet."""
        process = self._process
        return process.pid if process is not None and process.started and not process.ended.is_set() else 0

    @property
    def own_metrics(self) -> list[MetricFamily]:
        """Return the metrics that the engine keeps itself, as it last told them."""
        return self._metrics.read()

    @property
    def scratch(self) -> str:
        """Return the folder of the present run that is removed with it."""
        return self._process.scratch if self._process is not None else ""

    async def start(self) -> None:
        """Start the worker, and keep it alive from then on.

        Raises:
            ModelFailed: the engine cannot load the model.
            WorkerLost: the process cannot be started, or died while loading; the message ends with its last lines.
        """
        await self._launch()
        self._keeper = asyncio.create_task(self._keep())

    def send(self, *frames: ToWorker) -> None:
        """Send frames in one write; they are dropped when the worker is gone, of which `on_lost` tells."""
        if self._process is not None:
            self._process.send(*frames)

    async def load_lora(self, name: str, path: str) -> None:
        """Load an adapter in the present run; raises as `LoraCalls.load` does."""
        await self._lora_calls.load(name, path)

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter in the present run; raises as `LoraCalls.load` does."""
        await self._lora_calls.unload(name)

    async def stop(self, grace_s: float) -> None:
        """Let what runs finish within `grace_s`, then end the process."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        self._pulse.stop()
        was_ready, self.state = self.ready, WorkerState.DRAINING
        process = self._process
        if process is not None and process.started and not process.ended.is_set():
            if was_ready:
                process.send(Drain(grace_s))
                await process.end(grace_s + END_S)
            else:
                await process.end(0)
        self.state = WorkerState.STOPPED

    async def _launch(self) -> None:
        loop = asyncio.get_running_loop()
        self.state = WorkerState.STARTING
        self._lost.clear()
        self._verdict = ""
        self._loaded = loop.create_future()
        self._process = process = WorkerProcess(self.name, self._take, self._gone, self._ended)
        began = time.monotonic()
        try:
            await process.start()
            process.send(self.load)
            async with asyncio.timeout(self._load_s or None):
                self.info = await self._loaded
            await self._lora_calls.bring_up_to(self.loras)
        except BaseException as error:
            if process.started and not process.ended.is_set():
                await process.end(0)
            if isinstance(error, TimeoutError):
                raise WorkerLost(f"{self.name}: it had not loaded after {self._load_s:g} s") from None
            if isinstance(error, OSError):
                raise WorkerLost(f"{self.name}: its process cannot be started: {error}") from error
            raise
        self.state = WorkerState.READY
        log.info("worker_ready", worker=self.name, pid=process.pid, seconds=round(time.monotonic() - began, 2))
        for note in self.info.notes:
            log.warning("worker_note", worker=self.name, note=note)
        self._pulse.start()
        self._reports.on_ready(self)

    async def _keep(self) -> None:
        """Start the worker again, whenever it is lost, until cancelled."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            began = time.monotonic()
            await self._lost.wait()
            if time.monotonic() - began > PROVEN_S:
                backoff_s = FIRST_BACKOFF_S
            while True:
                self.state = WorkerState.WAITING
                assert self._process is not None
                await self._process.ended.wait()
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)
                self.restarts += 1
                try:
                    await self._launch()
                except (ModelFailed, WorkerLost) as error:
                    log.warning("worker_restart_failed", worker=self.name, error=str(error), again_in_s=backoff_s)
                else:
                    break

    def _take(self, frame: FromWorker) -> None:
        if self.state is WorkerState.WAITING:
            return  # it was given up, and others do what it did
        self._pulse.heard()
        match frame:
            case Step() | Pooled() | CacheChanged() | CacheDump() | Elsewhere():
                self._reports.on_frame(self, frame)
            case Gauges(values):
                self.gauges = values
                if self.ready:
                    self._reports.on_frame(self, frame)
            case OwnMetrics():
                self._metrics.take(frame)
            case LoraDone():
                self._lora_calls.answered(frame)
            case Ready(info):
                if self._loaded is not None and not self._loaded.done():
                    self._loaded.set_result(info)
            case Failed(message):
                if self._loaded is not None and not self._loaded.done():
                    self._loaded.set_exception(ModelFailed(self._failure(message)))

    def _silent(self) -> None:
        """Give up a worker that answers nothing."""
        self._verdict = f"it gave no sign of life for {self._silent_s:g} s"
        self._give_up(self._verdict)
        if self._process is not None:
            self._process.kill()

    def _gone(self, process: WorkerProcess) -> None:
        if self.state is WorkerState.READY:
            self._give_up(process.fate())

    def _give_up(self, reason: str) -> None:
        """Let what the worker was doing go on elsewhere, whatever becomes of its process."""
        self.state = WorkerState.WAITING
        self._pulse.stop()
        self._metrics.forget()
        self._reports.on_lost(self, reason)

    def _failure(self, message: str) -> str:
        """Word an engine's failure to load, with the exceptions that its own children wrote to the log."""
        causes = [cause for cause in self._process.causes() if cause not in message] if self._process else []
        return f"{self.name}: {message}" + "".join(f"\n    {cause}" for cause in causes)

    def _ended(self, process: WorkerProcess) -> None:
        self._lora_calls.lost(process.death())
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_exception(WorkerLost(f"{self.name} died while loading: {process.death()}"))
            return
        if self.state is WorkerState.WAITING:
            self.hung += bool(self._verdict) or process.status == STUCK_STATUS
            reason = f"{self._verdict}: {process.death()}" if self._verdict else process.death()
            log.error("worker_lost", worker=self.name, reason=reason)
            self._lost.set()
        elif self.state is WorkerState.DRAINING:
            self._pulse.stop()
            self._metrics.forget()
            self._reports.on_lost(self, process.death())
