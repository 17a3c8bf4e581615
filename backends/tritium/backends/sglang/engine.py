"""The sglang engine: SGLang's Engine on an event loop of its own, in a thread of the worker process.

    worker's loop: submit -> engine's loop: Engine.async_generate -> chunks -> Step -> worker's loop: on_step
    SGLang's event publisher -> EventReader on the worker's loop -> on_events

The thread keeps SGLang's hands off the process: on the main one it takes the signals by which a worker is drained.
"""

import asyncio
import dataclasses
import importlib.util
import secrets
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import structlog

from tritium.backends.engine import (
    Delta,
    EngineInfo,
    EngineSinks,
    EngineSource,
    FinishReason,
    Generate,
    Role,
    Step,
)
from tritium.backends.event_reader import EventReader
from tritium.backends.loopback import LOOPBACK, free_port
from tritium.backends.sglang.events import translate
from tritium.backends.sglang.sequences import TRANSFER, ChunkReader, generate_arguments
from tritium.backends.sglang.settings import SglangSettings, settings_for
from tritium.backends.streams import EngineLoad, Streams
from tritium.core.errors import InferenceError, InvalidArgument, Unavailable

_log = structlog.get_logger("tritium.sglang")

LOAD_EVERY_S = 1.0


class SglangEngine:
    """A LanguageEngine; see `tritium.backends.engine` for its contract."""

    def __init__(self, source: EngineSource) -> None:
        self._source = source
        self._load = EngineLoad()
        self._events: EventReader | None = None
        self._engine: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._streams: Streams | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._adapters: set[str] = set()

    async def start(self, sinks: EngineSinks) -> EngineInfo:
        """Load the model.

        Raises:
            Unavailable: SGLang is not installed.
            InvalidArgument: model.json holds what SGLang does not have.
            Exception: whatever SGLang says.
        """
        if importlib.util.find_spec("sglang") is None:
            raise Unavailable("SGLang is not installed", hint='pip install "sglang[all]", which needs a GPU')
        self._sinks = sinks
        self._home = asyncio.get_running_loop()
        self._events = EventReader(translate)
        ready: asyncio.Future[EngineInfo] = self._home.create_future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="sglang", daemon=True)
        self._thread.start()
        try:
            info = await ready
        except BaseException:
            self._events.close()
            raise
        self._events.start(sinks.on_events)
        return info

    def submit(self, request: Generate) -> None:
        """Queue one sequence."""
        assert self._streams is not None
        self._call(self._streams.submit, request)

    def abort(self, id: int) -> None:  # noqa: A002  the contract's name
        """Drop one sequence."""
        assert self._streams is not None
        self._call(self._streams.abort, id)

    async def load_lora(self, name: str, path: str) -> None:
        """Load an adapter.

        Raises:
            InvalidArgument: SGLang does not take it, in its words.
        """
        answer = await self._ask(self._engine.async_load_lora_adapter(name, path))
        if not answer.success:
            raise InvalidArgument(f"adapter '{name}': {answer.error_message}")
        self._adapters.add(name)

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter."""
        if name in self._adapters:
            self._adapters.discard(name)
            await self._ask(self._engine.async_unload_lora_adapter(name))

    def metrics(self) -> dict[str, float]:
        """Return SGLang's load and our counters."""
        return self._load.metrics() | (self._events.metrics() if self._events is not None else {})

    async def stop(self) -> None:
        """End SGLang's processes."""
        if self._events is not None:
            self._events.close()
        # A thread that is still loading cannot be told to end: it goes with the process.
        if self._loop is not None and self._thread is not None and self._streams is not None:
            await self._ask(self._close(self._streams))
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(self._thread.join)

    # On the worker's loop.

    def _call(self, function: Any, argument: Any) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function, argument)

    async def _ask(self, coroutine: Any) -> Any:
        assert self._loop is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    # In the engine's thread, on its loop.

    def _run(self, ready: "asyncio.Future[EngineInfo]") -> None:
        loop = self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            info = self._open(loop)
        except BaseException as error:  # noqa: BLE001  whatever stops SGLang from loading is the operator's to read
            words = error if isinstance(error, Exception) else RuntimeError(f"SGLang ended: {error!r}")
            self._home.call_soon_threadsafe(ready.set_exception, words)
            loop.close()
            return
        self._home.call_soon_threadsafe(ready.set_result, info)
        loop.run_forever()
        self._engine.shutdown()
        loop.close()

    def _open(self, loop: asyncio.AbstractEventLoop) -> EngineInfo:
        # They take seconds, and a GPU: a worker alone imports them.
        sglang = importlib.import_module("sglang")
        server_args = importlib.import_module("sglang.srt.server_args")
        assert self._events is not None
        settings = self._settings = settings_for(
            self._source,
            known=_names(server_args.ServerArgs),
            events_endpoint=self._events.endpoint,
            replay_endpoint=self._events.replay_endpoint,
            bootstrap_port=free_port() if self._source.role is Role.PREFILL else 0,
        )
        engine = self._engine = sglang.Engine(**settings.arguments)
        self._adapters = set(settings.loras)
        server = engine.get_server_info()
        self._context = int(engine.tokenizer_manager.context_len)
        self._block_tokens = int(server.get("page_size") or 1)
        self._load.total_blocks = int(server["max_total_num_tokens"]) // self._block_tokens
        self._streams = Streams("SGLang", self._stream, self._tell, self._load)
        self._background.add(loop.create_task(self._follow_load()))
        return self._info(server, settings)

    def _info(self, server: dict[str, Any], settings: SglangSettings) -> EngineInfo:
        return EngineInfo(
            engine="sglang",
            version=str(server["version"]),
            context_tokens=self._context,
            block_tokens=self._block_tokens,
            total_blocks=self._load.total_blocks,
            max_sequences=int(server.get("max_running_requests") or 0),
            transfer=str(settings.arguments.get("disaggregation_transfer_backend", "")),
            notes=settings.notes,
            lora=bool(settings.arguments.get("enable_lora")),
            computes_prompts=self._source.role is not Role.DECODE,
            first_token_moves=True,
        )

    async def _stream(self, request: Generate) -> AsyncIterator[Delta]:
        """Stream one sequence, in the part that this worker's role has in it."""
        if request.media:
            raise InvalidArgument("the sglang engine takes no images, sounds or films")
        if request.lora and request.lora not in self._adapters:
            known = ", ".join(sorted(self._adapters)) or "none"
            raise InvalidArgument(f"the model has no LoRA adapter '{request.lora}'; it has {known}")
        arguments = generate_arguments(request, self._context)
        if self._settings.heeds_priority:
            arguments["priority"] = request.priority
        match self._source.role:
            case Role.PREFILL:
                if not request.keep:
                    raise InferenceError("a prefill worker of SGLang computes prompts for others alone")
                # SGLang ends a prefill only when its KV has been fetched, so whoever fetches must be told before.
                # What it refuses of a request, the decoding worker refuses too, and tells.
                transfer = self._bootstrap()
                task = asyncio.get_running_loop().create_task(self._prefill(request, arguments | transfer))
                self._background.add(task)
                task.add_done_callback(self._background.discard)
                yield Delta(request.id, [], FinishReason.LENGTH, transfer=transfer)
                return
            case Role.DECODE:
                if request.transfer is None:
                    raise InferenceError(
                        "a decode worker of SGLang computes no prompts",
                        hint="have every prompt computed by a prefill worker",
                    )
                arguments |= {name: request.transfer[name] for name in TRANSFER}
        async with aclosing(self._chunks(arguments)) as chunks:
            reader = ChunkReader(request)
            async for chunk in chunks:
                yield reader.read(chunk)

    async def _chunks(self, arguments: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Ask SGLang, and have it stop when nobody listens any more."""
        # SGLang aborts every request whose id begins with the one it is given: all are of one length.
        rid = uuid.uuid4().hex
        finished = False
        try:
            async for chunk in await self._engine.async_generate(**arguments, rid=rid):
                finished = chunk["meta_info"].get("finish_reason") is not None
                yield chunk
        finally:
            if not finished:
                self._engine.tokenizer_manager.abort_request(rid=rid)

    async def _prefill(self, request: Generate, arguments: dict[str, Any]) -> None:
        """See a prefill to its end, which comes when its KV was fetched."""
        reader = ChunkReader(request)
        try:
            async with aclosing(self._chunks(arguments)) as chunks:
                async for chunk in chunks:
                    delta = reader.read(chunk)
                    self._load.output_tokens += len(delta.token_ids)
        except (InferenceError, ValueError) as error:
            _log.warning("prefill_failed", error=str(error), room=arguments["bootstrap_room"])

    def _bootstrap(self) -> dict[str, Any]:
        settings = self._settings.arguments
        port = settings["disaggregation_bootstrap_port"]
        values = (settings.get("host", LOOPBACK), port, secrets.randbits(62))
        return dict(zip(TRANSFER, values, strict=True))

    def _tell(self, step: Step) -> None:
        self._home.call_soon_threadsafe(self._sinks.on_step, step)

    async def _follow_load(self) -> None:
        """Ask SGLang now and then how much it has to do; without it the model serves all the same."""
        load = self._load
        try:
            while True:
                snapshots = await self._engine.tokenizer_manager.get_loads()
                load.running = sum(each.num_running_reqs for each in snapshots)
                load.waiting = sum(each.num_waiting_reqs for each in snapshots)
                load.used_blocks = sum(each.num_used_tokens for each in snapshots) // self._block_tokens
                await asyncio.sleep(LOAD_EVERY_S)
        except Exception as error:  # noqa: BLE001  whatever it is, answers do not depend on it
            _log.error("load_not_followed", error=f"{type(error).__name__}: {error}")

    async def _close(self, streams: Streams) -> None:
        await streams.close()
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _names(arguments: Any) -> Sequence[str]:
    """Return the names of SGLang's arguments: a msgspec struct today, a dataclass before."""
    fields: Sequence[str] | None = getattr(arguments, "__struct_fields__", None)
    return fields if fields is not None else [field.name for field in dataclasses.fields(arguments)]
