"""One worker of a fleet, kept alive.

    STARTING --Ready--> READY --lost--> WAITING --back-off--> STARTING ...
        |                 |                ^
        |                 |   died loading |
        +-----------------|----------------+     (at the very first start: the error is raised instead)
                          |
                          +--stop--> DRAINING --> STOPPED      (from any state)

The way back to READY always leads through a fresh process.
"""

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum

import structlog

from tritium.backends.engine import EngineInfo, Step
from tritium.cluster.frames import Drain, Events, Failed, FromWorker, Gauges, Load, Ready, ToWorker
from tritium.cluster.process import WorkerProcess
from tritium.core.errors import ModelFailed, WorkerLost

FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 30.0
PROVEN_S = 60.0
"""A worker that served this long starts again without back-off."""

END_S = 15.0
"""How long a drained worker may take to free its engine and end."""

log = structlog.get_logger(__name__)


class WorkerState(StrEnum):
    """Where a worker stands."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    DRAINING = "draining"
    STOPPED = "stopped"


class SupervisedWorker:
    """A worker that is started again whenever it dies.

    Contract: `on_ready` and `on_lost` alternate; between them `on_frame` gives the worker's steps and events.
    """

    def __init__(
        self,
        load: Load,
        *,
        on_ready: Callable[["SupervisedWorker"], None],
        on_lost: Callable[["SupervisedWorker", str], None],
        on_frame: Callable[["SupervisedWorker", Step | Events], None],
    ) -> None:
        self.load = load
        self.name = load.worker
        self.role = load.role
        self.state = WorkerState.STARTING
        self.info: EngineInfo | None = None
        self.restarts = 0
        self.gauges: dict[str, float] = {}
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._on_frame = on_frame
        self._process: WorkerProcess | None = None
        self._loaded: asyncio.Future[EngineInfo] | None = None
        self._lost: asyncio.Event = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Tell whether the worker takes requests."""
        return self.state is WorkerState.READY

    @property
    def pid(self) -> int:
        """Return the process id of the present run, 0 where there is none."""
        return self._process.pid if self._process is not None and not self._process.ended.is_set() else 0

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

    async def stop(self, grace_s: float) -> None:
        """Let what runs finish within `grace_s`, then end the process."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        was_ready, self.state = self.ready, WorkerState.DRAINING
        process = self._process
        if process is not None and process.started and not process.ended.is_set():
            if was_ready:
                process.send(Drain(grace_s))
                await process.end(grace_s + END_S)
            else:
                process.kill()
                await process.ended.wait()
        self.state = WorkerState.STOPPED

    async def _launch(self) -> None:
        loop = asyncio.get_running_loop()
        self.state = WorkerState.STARTING
        self._lost.clear()
        self._loaded = loop.create_future()
        self._process = process = WorkerProcess(self.name, self._take, self._ended)
        began = time.monotonic()
        try:
            await process.start()
            process.send(self.load)
            self.info = await self._loaded
        except BaseException as error:
            if process.started and not process.ended.is_set():
                process.kill()
                await process.ended.wait()
            if isinstance(error, OSError):
                raise WorkerLost(f"{self.name}: its process cannot be started: {error}") from error
            raise
        self.state = WorkerState.READY
        log.info("worker_ready", worker=self.name, pid=process.pid, seconds=round(time.monotonic() - began, 2))
        for note in self.info.notes:
            log.warning("worker_note", worker=self.name, note=note)
        self._on_ready(self)

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
        match frame:
            case Step() | Events():
                self._on_frame(self, frame)
            case Gauges(values):
                self.gauges = values
            case Ready(info):
                if self._loaded is not None and not self._loaded.done():
                    self._loaded.set_result(info)
            case Failed(message):
                if self._loaded is not None and not self._loaded.done():
                    self._loaded.set_exception(ModelFailed(self._failure(message)))

    def _failure(self, message: str) -> str:
        """Word an engine's failure to load, with the exceptions that its own children wrote to the log."""
        causes = [cause for cause in self._process.causes() if cause not in message] if self._process else []
        return f"{self.name}: {message}" + "".join(f"\n    {cause}" for cause in causes)

    def _ended(self, process: WorkerProcess) -> None:
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_exception(WorkerLost(f"{self.name} died while loading: {process.death()}"))
            return
        was_serving = self.state in (WorkerState.READY, WorkerState.DRAINING)
        if not was_serving:
            return
        reason = process.death()
        if self.state is WorkerState.READY:
            log.error("worker_lost", worker=self.name, reason=reason)
            self.state = WorkerState.WAITING
        self._on_lost(self, reason)
        self._lost.set()
