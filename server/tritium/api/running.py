"""A server on an event loop in a thread of its own: started, asked from any thread, stopped.

STARTING --loaded--> RUNNING --stop--> STOPPED
|
+--error--> STOPPED, and the error is the caller's
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TypeVar

import structlog
import uvloop

from tritium.api.errors import InternalError, exception_of
from tritium.cli.assembly import Assembly, assemble, listen
from tritium.cli.facilities import close_facilities, open_facilities
from tritium.cli.observability import server_metrics, settings_of_log
from tritium.cli.options import ServeOptions, SettingsError
from tritium.core.catalog import Repositories
from tritium.core.errors import InferenceError
from tritium.core.model import State
from tritium.core.serving import ServerState
from tritium.observe.custom import custom_metrics
from tritium.observe.log import configure
from tritium.observe.samples import render
from tritium.repository.events import ModelEvent
from tritium.wire.errors import ListenError, TlsError
from tritium.wire.listener import Listener

log = structlog.get_logger("tritium.api")

Answer = TypeVar("Answer")


class _Lines:
    """Where the log goes that the application wants to read: to a function, line by line."""

    def __init__(self, callback: Callable[[str], None]) -> None:
        self._callback = callback

    def write(self, text: str, /) -> int:
        """Hand over what was written, which is one line."""
        self._callback(text.removesuffix("\n"))
        return len(text)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""


class Running:
    """A server that has been started; `log_callback` gets the lines of its log, on whichever thread writes them.

    Raises:
        TritonError: it could not be: a repository, a model or a port is not as it must be.
    """

    def __init__(self, options: ServeOptions, log_callback: Callable[[str], None] | None = None) -> None:
        self._options = options
        self._failures: list[str] = []
        # The process is the application's, and may log by structlog itself before and after.
        self._logging_before = structlog.get_config()
        lines = _Lines(log_callback) if log_callback is not None else None
        configure(settings_of_log(options), lines, lines, lasting=False)
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="tritium", daemon=True)
        self._thread.start()
        ready.result()

    def _run(self, ready: "Future[None]") -> None:
        try:
            uvloop.run(self._serve(ready))
        finally:
            structlog.configure(**self._logging_before)

    async def _serve(self, ready: "Future[None]") -> None:
        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        try:
            assembly = assemble(self._options, self._on_model)
        except (SettingsError, InferenceError) as error:
            ready.set_exception(InternalError(str(error)))
            return
        self._assembly = assembly
        self._listeners: dict[str, Listener] = {}
        self._metrics = [
            *server_metrics(
                self._options, assembly.metrics_config, assembly.registry.models, assembly.facilities.store
            ),
            custom_metrics(assembly.metrics),
        ]
        try:
            try:
                await self._start(assembly)
            except (SettingsError, InferenceError, ListenError, TlsError, InternalError) as error:
                ready.set_exception(InternalError(str(error)))
                return
            ready.set_result(None)
            await self._stopping.wait()
        finally:
            await self._close(assembly)

    async def _start(self, assembly: Assembly) -> None:
        registry, options = assembly.registry, self._options
        await open_facilities(assembly.facilities)
        found = await asyncio.to_thread(registry.survey)
        if found.problems and found.fatal and options.exit_on_error:
            raise InternalError(found.render("Nothing was loaded."))
        self._listeners = await listen(options, assembly)
        await registry.start(found)
        if options.exit_on_error and not registry.all_loaded:
            raise InternalError("failed to load all models: " + "; ".join(self._failures))
        for listener in self._listeners.values():
            await listener.begin()

    async def _close(self, assembly: Assembly) -> None:
        grace_s = self._options.exit_timeout_s
        await asyncio.gather(*(listener.close(grace_s) for listener in self._listeners.values()))
        try:
            async with asyncio.timeout(grace_s):
                await assembly.registry.close()
        except TimeoutError:
            log.warning("models_did_not_drain", seconds=grace_s)
        await close_facilities(assembly.facilities)
        assembly.tracing.close()

    def _on_model(self, event: ModelEvent) -> None:
        if event.state is State.UNAVAILABLE:
            self._failures.append(f"{event.model} {event.version}: {event.reason}")

    @property
    def state(self) -> ServerState:
        """Return what a front-end would know of the server."""
        registry = self._assembly.registry
        return ServerState(registry, name=self._options.server_id, live=lambda: registry.live, labels=registry.labels)

    @property
    def repositories(self) -> Repositories:
        """Return the folders that models come from."""
        return self._assembly.registry

    @property
    def ports(self) -> dict[str, int]:
        """Return the open ports by protocol."""
        return {name: listener.port for name, listener in self._listeners.items()}

    def call(self, function: Callable[[], Answer]) -> Answer:
        """Run a function on the server's loop and return what it returns.

        Raises:
            TritonError: what the server raised.
        """

        async def run() -> Answer:
            return function()

        return self.wait(run())

    def wait(self, work: Coroutine[object, object, Answer]) -> Answer:
        """Run a coroutine on the server's loop, wait for it, and return what it returns.

        Raises:
            TritonError: what the server raised.
        """
        try:
            return asyncio.run_coroutine_threadsafe(work, self.loop).result()
        except InferenceError as error:
            raise exception_of(error) from None

    async def poll(self) -> None:
        """Look at the repositories."""
        await self._assembly.registry.poll()

    def metrics(self) -> str:
        """Return all metrics in Prometheus' text form."""
        return self.call(lambda: render(sample for source in self._metrics for sample in source()))

    def stop(self) -> None:
        """Let requests in flight finish, unload every model and end the thread."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
