"""The life of a worker process that fronts find by discovery, from its options to its exit status.

settings wrong --> exit 2
     |
loading --fails--> exit 1
     |
listening -> announced -> ready --SIGTERM--> withdrawn, draining: streams finish --> exit 0
     `--SIGTERM--> exit 0   |                          `--SIGTERM again--> exit at once
                            `--a role that takes a new start--> drained as above --> this program anew, in that role
"""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import structlog
import uvloop

from tritium.backends.engine import Role
from tritium.backends.transfer.paths import TransferPath
from tritium.cli.options import SettingsError
from tritium.cli.scratch import Scratch
from tritium.cli.streams import complete_streams
from tritium.cli.worker_loader import loader_of
from tritium.cli.worker_options import WorkerOptions
from tritium.cli.worker_restart import ROLE_BEFORE, start_anew
from tritium.cli.worker_settings import WorkerSettings
from tritium.cluster.announcement import Announcement
from tritium.cluster.card import Instance
from tritium.cluster.engines import words_of
from tritium.cluster.events.publisher import EventPublisher
from tritium.cluster.frames import VERSION, Load
from tritium.cluster.own_role import OwnRole
from tritium.cluster.plane.files import FileServer
from tritium.cluster.plane.listener import PlaneListener
from tritium.cluster.runner import EngineRunner, end_at_once
from tritium.cluster.spec import FleetSpec
from tritium.core.errors import InferenceError, Internal
from tritium.core.log_settings import LogSettings
from tritium.llm.card_files import CardAndFiles, make_card
from tritium.llm.loader import Prepared
from tritium.observe.log import configure

OK, FAILED, BAD_CONFIGURATION = 0, 1, 2

log = structlog.get_logger("tritium")

Result = TypeVar("Result")


def run(options: WorkerOptions) -> NoReturn:
    """Serve one engine until told to stop, and end the process."""
    complete_streams()
    levels = ("error", "warning", "info", "debug")
    level = levels.index(options.log_level)
    configure(
        LogSettings(
            "",
            info=level >= levels.index("info"),
            warning=level >= levels.index("warning"),
            error=True,
            verbose_level=int(options.log_level == "debug"),
            format=options.log_format,
        ),
        sys.stderr,
    )
    # Engines add to the environment what they choose; a run in another role has to choose for itself.
    environment = dict(os.environ)
    scratch = Scratch("worker")
    worker = _WorkerProcess(options, scratch.open())
    try:
        status = uvloop.run(worker.serve())
    finally:
        scratch.close()
    sys.stdout.flush()
    sys.stderr.flush()
    if worker.next_role is not None:
        start_anew(worker.next_role, options.role if status == OK else "", environment)
    # The engine has freed what it held; taking a big library down object by object would only cost seconds.
    os._exit(status)


class _WorkerProcess:
    def __init__(self, options: WorkerOptions, scratch: Path) -> None:
        self._options = options
        self._scratch = scratch
        self._stop = asyncio.Event()
        self._began_s = time.monotonic()
        self._before = os.environ.pop(ROLE_BEFORE, "")
        self._unwanted = False
        """Every front that there is refuses the worker."""
        self.next_role: Role | None = None
        """The role to start anew in, once this run is over."""

    async def serve(self) -> int:
        """Load, listen, announce, serve, drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told_to_stop, number)
        try:
            settings = WorkerSettings(self._options, self._scratch)
        except SettingsError as error:
            _say(f"tritium: {error}")
            return BAD_CONFIGURATION
        runner = EngineRunner(str(self._scratch), end_at_once)
        _say(f"Loading {settings.model.source.config.name} ...")
        try:
            made = await self._unless_stopped(self._load(settings, runner))
        except InferenceError as error:
            _say(f"tritium: {error.told}")
            if self._before:
                _say(f"It cannot be started as {self._options.role}, and is started as {self._before} again.")
                self.next_role = Role(self._before)
            return FAILED
        if made is None:
            await runner.stop()
            return OK
        try:
            return await self._offer(settings, runner, made)
        finally:
            await settings.discovery.close()

    async def _load(self, settings: WorkerSettings, runner: EngineRunner) -> CardAndFiles:
        source = settings.model.source
        prepared = await loader_of(self._options, source.config.backend, source.config.name).prepare(source)
        try:
            info = await runner.open(self._frame(settings, prepared))
        except InferenceError:
            raise
        except Exception as error:
            raise Internal(words_of(error)) from error
        for note in info.notes:
            log.warning("worker_note", note=note)
        return await asyncio.to_thread(make_card, source.config.name, info, prepared, settings.model.config)

    def _frame(self, settings: WorkerSettings, prepared: Prepared) -> Load:
        spec = FleetSpec()
        role = Role(self._options.role)
        return Load(
            VERSION,
            prepared.engine,
            str(prepared.folder),
            prepared.arguments,
            role,
            settings.name,
            settings.index,
            settings.count,
            spec.stuck_s,
            spec.canary_s,
            mixed=self._options.mixed or role is not Role.AGGREGATED,
            path=TransferPath(self._options.transfer),
            check_transfer=role is not Role.AGGREGATED and settings.index == 0,
            host="" if settings.listen.private else self._options.advertise or settings.listen.host,
        )

    async def _offer(self, settings: WorkerSettings, runner: EngineRunner, made: CardAndFiles) -> int:
        run = secrets.token_hex(8)
        role = OwnRole(Role(self._options.role), made.card.info.roles)
        door = PlaneListener(
            runner, FileServer(made.paths), settings.security, worker=settings.name, run=run, role=role
        )
        try:
            bound = await door.open(settings.listen)
        except InferenceError as error:
            _say(f"tritium: {error.told}")
            await runner.stop()
            return FAILED
        events = None
        if settings.events is not None:
            events = EventPublisher(settings.events, self._options.namespace, run)
            runner.publish, runner.more_gauges = events.publish, events.metrics
            events.start()
        told = bound.at(host=self._options.advertise) if self._options.advertise and not bound.path else bound
        namespace, now_s = self._options.namespace, time.time()
        instance = Instance(namespace, settings.name, run, role.role, str(told), VERSION, now_s, made.card)
        announcement = Announcement(settings.discovery, instance)
        role.on_change.append(lambda: announcement.change(role.role, role.number))
        role.on_restart = self._take_by_restart
        door.refusals.on_refused = lambda front, reason: self._refused(door, front, reason)
        await self._unless_stopped(announcement.announce())
        if not self._stop.is_set():
            seconds = time.monotonic() - self._began_s
            _say(
                f"Worker {settings.name} ({role.role}) serves {made.card.model} by {made.card.info.engine} at {told}, "
                f"namespace {self._options.namespace}.\nReady in {seconds:.1f} s. Ctrl-C drains and stops."
            )
            await self._stop.wait()
        then = f", to start as {self.next_role}" if self.next_role else ""
        _say(f"Draining{then}; again Ctrl-C to stop at once.")
        await announcement.withdraw()
        await door.drain(self._options.drain_s)
        await door.close()
        status = FAILED if self._unwanted else OK
        if events is not None:
            await events.close()
        await runner.stop()
        return status

    def _refused(self, door: PlaneListener, front: str, reason: str) -> None:
        """Say that a front does not use the worker; end where none does for as long as that may be."""
        log.error("not_used_by_front", front=front, reason=reason)
        if self._options.refused_s:
            asyncio.get_running_loop().call_later(self._options.refused_s, self._end_if_unwanted, door)

    def _end_if_unwanted(self, door: PlaneListener) -> None:
        if door.refusals.reasons and not door.fronts and not self._stop.is_set():
            _say(f"tritium: no front has used this worker for {self._options.refused_s:g} s; see above why")
            self._unwanted = True
            self._stop.set()

    async def _unless_stopped(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        """Return what the work gives, or None when the worker was told to stop meanwhile."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if working.done():
            return working.result()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError, InferenceError):
            await working
        return None

    def _take_by_restart(self, role: Role) -> None:
        self.next_role = role
        self._stop.set()

    def _told_to_stop(self, number: signal.Signals) -> None:
        if self._stop.is_set() and self.next_role is None:
            os._exit(128 + number)
        self.next_role = None
        self._stop.set()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
