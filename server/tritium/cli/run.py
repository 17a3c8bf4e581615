"""The life of a server process, from its options to its exit status.

port taken --> exit 1
  |
survey --problems--> exit 2                                              load --failed--> exit 1
  |                                                                        |
  +----------------------------------> ports open, live, not ready ------> ready --SIGTERM--> draining --> exit 0
"""

import asyncio
import signal
import sys
from dataclasses import replace
from typing import Any

import structlog
import uvloop

from tritium.cli.assembly import assemble, find_models, listen
from tritium.cli.cloud_ports import missing_model
from tritium.cli.endpoints import endpoints
from tritium.cli.facilities import close_facilities, open_facilities
from tritium.cli.observability import settings_of_log
from tritium.cli.options import ServeOptions, SettingsError
from tritium.cli.ports import check_free, check_ports, explain
from tritium.cli.screen import Display, LogDisplay, Row, Screen
from tritium.cli.streams import complete_streams
from tritium.cli.triton_display import TritonDisplay
from tritium.compat.config import messages
from tritium.compat.config.problem import Stage
from tritium.core.errors import InferenceError
from tritium.core.model import State
from tritium.llm.model import LanguageModel
from tritium.observe.log import Log, configure
from tritium.repository.events import ModelEvent
from tritium.repository.registry import Registry
from tritium.repository.survey import Survey
from tritium.wire.errors import ListenError, TlsError
from tritium.wire.listener import Listener

OK, FAILED, BAD_CONFIGURATION = 0, 1, 2

_WORKERS_END_S = 5
"""What processes may take to end after their models have drained."""

log = structlog.get_logger("tritium")


def run(options: ServeOptions) -> int:
    """Serve until told to stop; return the exit status."""
    complete_streams()
    screen = Screen(sys.stderr)
    try:
        log_settings = configure(settings_of_log(options), screen)
    except OSError as error:
        sys.stderr.write(f"tritium: log file {options.log_file}: {error.strerror}\n")
        return BAD_CONFIGURATION
    return uvloop.run(_Process(options, _display(options, screen), log_settings).serve())


def _display(options: ServeOptions, screen: Screen) -> Display:
    """Return where the start is shown: to a person, or in the log where every line is to be of its form."""
    if options.log_format in ("default", "ISO8601"):
        return TritonDisplay(options)
    return LogDisplay() if options.log_format == "json" and not options.log_file else screen


class _Process:
    """One server, with the screen it reports to."""

    def __init__(self, options: ServeOptions, display: Display, log_settings: Log) -> None:
        self._options = options
        self._display = display
        self._log_settings = log_settings
        self._rows: dict[tuple[str, str], Row] = {}
        self._stop = asyncio.Event()

    async def serve(self) -> int:
        """Survey, listen, load, serve, drain."""
        try:
            check_ports(self._options)
            assembly = assemble(self._options, self._on_model)
            await open_facilities(assembly.facilities)
        except (SettingsError, InferenceError) as error:
            self._display.say(f"tritium: {error}")
            return BAD_CONFIGURATION
        registry = assembly.registry
        try:
            await check_free(self._options)
            found = await asyncio.to_thread(registry.survey)
            if found.problems:
                serving = not (found.fatal and self._options.exit_on_error)
                self._log_as_triton(found)
                self._display.say(found.render("" if serving else "Nothing was loaded."))
                if not serving:
                    return BAD_CONFIGURATION
            listeners = await listen(self._options, assembly, self._log_settings)
        except SettingsError as error:
            self._display.say(f"tritium: {error}")
            return BAD_CONFIGURATION
        except ListenError as error:
            self._display.say(f"tritium: {explain(error, self._options)}")
            return FAILED
        except TlsError as error:
            self._display.say(f"tritium: {error}")
            return FAILED
        self._watch_signals()
        try:
            loading = asyncio.ensure_future(registry.start(found))
            await self._unless_stopped(loading)
            if self._stop.is_set():
                return OK
            if self._options.exit_on_error and not registry.all_loaded:
                self._stop.set()  # what is unloaded from here on need not push the reason off a screen
                self._report_failures()
                return FAILED
            if missing := missing_model(self._options, registry):
                self._display.say(f"tritium: failed to start Vertex AI service: {missing}")
                return FAILED
            await self._unless_stopped(asyncio.ensure_future(find_models(self._options, assembly)))
            for listener in listeners.values():
                await listener.begin()
            self._display.ready(self._table(registry), endpoints(self._options, listeners, registry))
            await self._stop.wait()
            self._display.draining(self._options.exit_timeout_s)
            return OK
        finally:
            if assembly.found is not None:
                await assembly.found.close()
            await self._close(listeners, registry)
            await close_facilities(assembly.facilities)
            assembly.tracing.close()

    def _log_as_triton(self, found: Survey) -> None:
        """Log models that cannot be read as tritonserver does, for those who look for its lines."""
        if not isinstance(self._display, TritonDisplay):
            return
        for candidate in found.candidates.values():
            if problem := candidate.first(Stage.POLL):
                log.error(messages.poll_failed_for(candidate.key, problem.message))
            elif problem := candidate.first(Stage.GRAPH):
                log.error(messages.with_status(problem.status, problem.message))
            elif problem := candidate.first(Stage.LOAD):
                reason = messages.with_status(problem.status, problem.reason or problem.message)
                log.error(messages.version_not_loaded(candidate.name, (candidate.versions or [""])[-1], reason))

    async def _unless_stopped(self, loading: "asyncio.Future[None]") -> None:
        stopping = asyncio.ensure_future(self._stop.wait())
        both: set[asyncio.Future[Any]] = {loading, stopping}
        while not (await asyncio.wait(both, timeout=1, return_when=asyncio.FIRST_COMPLETED))[0]:
            self._display.tick()
        stopping.cancel()
        if not loading.done():
            loading.cancel()
        await asyncio.gather(loading, return_exceptions=self._stop.is_set())

    async def _close(self, listeners: dict[str, Listener], registry: Registry) -> None:
        """Let calls in flight finish, then every model, both within the time for an exit."""
        grace_s = self._options.exit_timeout_s
        ends_s = asyncio.get_running_loop().time() + grace_s + _WORKERS_END_S
        await asyncio.gather(*(listener.close(grace_s) for listener in listeners.values()))
        try:
            async with asyncio.timeout_at(ends_s):
                await registry.close()
        except TimeoutError:
            log.warning("models_did_not_drain", seconds=grace_s)

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told_to_stop, number)

    def _told_to_stop(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            # Children see the end of their sockets and leave by themselves.
            raise SystemExit(128 + number)
        self._stop.set()

    def _on_model(self, event: ModelEvent) -> None:
        if event.state is State.LOADING:
            self._display.loading(event.model, event.version)
        elif event.state is State.UNAVAILABLE and event.reason == messages.UNLOADED:
            # Who ends a server by hand knows that its models end.
            if not self._stop.is_set() or not isinstance(self._display, Screen):
                self._display.unloaded(event.model, event.version)
        elif event.state in (State.READY, State.UNAVAILABLE):
            row = Row(
                event.model,
                event.version,
                event.backend,
                event.instances,
                event.state,
                event.seconds,
                event.reason,
                event.hint,
            )
            self._rows[event.model, event.version] = row
            self._display.loaded(row)

    def _table(self, registry: Registry) -> list[Row]:
        rows = dict(self._rows)
        for model in registry.models():
            if isinstance(model, LanguageModel) and (row := rows.get((model.name, model.version))):
                engine = f"{model.config.backend} ({model.fleet.info.engine})"
                rows[model.name, model.version] = replace(row, backend=engine, instances=model.fleet.shape)
        return [row for _, row in sorted(rows.items())]

    def _report_failures(self) -> None:
        failed = [row for _, row in sorted(self._rows.items()) if row.reason]
        for row in failed:
            self._display.say(f"\n{row.model} {row.version} could not be loaded:\n  {row.failure}")
        hint = "--no-exit-on-error (tritonserver: --exit-on-error=false) serves the models that load."
        self._display.say(f"\n{len(failed)} of {len(self._rows)} models could not be loaded. {hint}")
