"""The tensorrtllm engine: the LLM API of the installed TensorRT-LLM, inside a worker process.

submit -> a task per sequence on LLM.generate_async -> outputs -> one Step a turn of the loop
LLM.get_kv_cache_events_async -> EventBook -> on_events        LLM.get_stats_async -> load, counters
"""

import asyncio
import importlib
import importlib.util
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog

from tritium.backends.engine import (
    Delta,
    EngineInfo,
    EngineSinks,
    EngineSource,
    Generate,
)
from tritium.backends.streams import EngineLoad, Streams
from tritium.backends.tensorrtllm.events import EventBook
from tritium.backends.tensorrtllm.sequences import ResultReader, biases, guided_fields, parameters_of, sampling_fields
from tritium.backends.tensorrtllm.settings import settings_for
from tritium.core.errors import InferenceError, InvalidArgument, Unavailable

_log = structlog.get_logger("tritium.tensorrtllm")

POLL_S = 1.0
"""How long TensorRT-LLM is asked to wait for an event or a statistic before it is asked again."""

PAUSE_S = 0.05

_FIRST_LORA = 1


class TensorRtLlmEngine:
    """A LanguageEngine; see `tritium.backends.engine` for its contract."""

    def __init__(self, source: EngineSource) -> None:
        self._source = source
        self._load = EngineLoad()
        self._llm: Any = None
        self._streams: Streams | None = None
        self._book = EventBook(0)
        self._loras: dict[str, Any] = {}
        self._lora_numbers = _FIRST_LORA
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = asyncio.Event()

    async def start(self, sinks: EngineSinks) -> EngineInfo:
        """Load the model. Blocks the loop for as long as TensorRT-LLM takes: nothing else runs in a worker then.

        Raises:
            Unavailable: TensorRT-LLM is not installed.
            InvalidArgument: model.json holds what TensorRT-LLM does not have.
            Exception: whatever TensorRT-LLM says.
        """
        if importlib.util.find_spec("tensorrt_llm") is None:
            raise Unavailable("TensorRT-LLM is not installed", hint="pip install tensorrt-llm, which needs a GPU")
        self._sinks = sinks
        # They take seconds, and a GPU: a worker alone imports them.
        package = importlib.import_module("tensorrt_llm")
        llm_args = importlib.import_module("tensorrt_llm.llmapi.llm_args")
        llm_utils = importlib.import_module("tensorrt_llm.llmapi.llm_utils")
        self._sampling = importlib.import_module("tensorrt_llm.sampling_params")
        self._requests = importlib.import_module("tensorrt_llm.executor.request")
        self._disaggregation = importlib.import_module("tensorrt_llm.disaggregated_params")
        self._results = importlib.import_module("tensorrt_llm.executor.result")
        settings = settings_for(self._source, known=list(llm_args.TorchLlmArgs.model_fields))
        # Makes configurations of mappings, as it does of Triton's model.yaml.
        arguments = llm_utils.update_llm_args_with_extra_dict({}, settings.arguments)
        llm = self._llm = package.LLM(**arguments)
        for name, path in settings.loras.items():
            self._add_lora(name, path)
        self._config = self._read_config()
        self._context = int(llm.args.max_seq_len or self._config.get("max_position_embeddings") or 0)
        if not self._context:
            raise InvalidArgument("the context of the model is not known", hint="set max_seq_len in model.json")
        block_tokens = int(llm.args.kv_cache_config.tokens_per_block)
        self._book = EventBook(block_tokens)
        self._streams = Streams("TensorRT-LLM", self._stream, sinks.on_step, self._load)
        loop = asyncio.get_running_loop()
        followed = (self._follow_events, self._follow_load)
        self._tasks = [loop.create_task(self._follow(each)) for each in followed]
        return EngineInfo(
            engine="tensorrtllm",
            version=str(package.__version__),
            context_tokens=self._context,
            block_tokens=block_tokens,
            total_blocks=0,  # TensorRT-LLM tells it with its first statistics
            max_sequences=int(llm.args.max_batch_size or 0),
            transfer="tensorrtllm" if self._source.moves_kv else "",
            first_token_moves=True,
            notes=settings.notes,
            lora=bool(settings.arguments.get("enable_lora") or settings.arguments.get("lora_config")),
        )

    def submit(self, request: Generate) -> None:
        """Queue one sequence."""
        assert self._streams is not None
        self._streams.submit(request)

    def abort(self, id: int) -> None:  # noqa: A002  the contract's name
        """Drop one sequence."""
        assert self._streams is not None
        self._streams.abort(id)

    async def load_lora(self, name: str, path: str) -> None:
        """Take an adapter; TensorRT-LLM reads it with the first request that names it.

        Raises:
            InvalidArgument: there is no such path.
        """
        self._add_lora(name, path)

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter."""
        self._loras.pop(name, None)

    def metrics(self) -> dict[str, float]:
        """Return TensorRT-LLM's load and our counters."""
        return self._load.metrics() | {"tritium_kv_events_lost_total": self._book.lost}

    async def stop(self) -> None:
        """End TensorRT-LLM's processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._streams is not None:
            await self._streams.close()
        if self._llm is not None:
            llm, self._llm = self._llm, None
            await asyncio.to_thread(llm.shutdown)

    def _add_lora(self, name: str, path: str) -> None:
        try:
            request = self._requests.LoRARequest(name, self._lora_numbers, path)
        except ValueError as error:
            raise InvalidArgument(f"adapter '{name}': {error}") from None
        # A number stands for one path for ever: TensorRT-LLM keeps what it has read by it.
        self._lora_numbers += 1
        self._loras[name] = request

    def _read_config(self) -> dict[str, Any]:
        path = self._source.folder / "config.json"
        config: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
        return config

    async def _stream(self, request: Generate) -> AsyncIterator[Delta]:
        """Stream one sequence, in the part that this worker's role has in it."""
        if request.media:
            raise InvalidArgument("the tensorrtllm engine takes no images, sounds or films")
        arguments: dict[str, Any] = {
            "inputs": request.token_ids,
            "sampling_params": self._parameters(request),
            "streaming": True,
        }
        if request.lora:
            if request.lora not in self._loras:
                known = ", ".join(self._loras) or "none"
                raise InvalidArgument(f"the model has no LoRA adapter '{request.lora}'; it has {known}")
            arguments["lora_request"] = self._loras[request.lora]
        if request.cache_salt:
            arguments["cache_salt"] = request.cache_salt
        if (part := self._part(request)) is not None:
            arguments["disaggregated_params"] = part
        result = self._llm.generate_async(**arguments)
        self._begun.set()
        reader = ResultReader(request)
        finished = False
        try:
            async for output in result:
                delta = reader.read(output)
                finished = delta.finish is not None
                yield delta
        finally:
            if not finished:
                result.abort()

    def _part(self, request: Generate) -> Any:
        """Return the DisaggregatedParams of what is asked of this worker; None where it does all itself."""
        disaggregated = self._disaggregation.DisaggregatedParams
        if request.keep:
            return disaggregated(request_type="context_only")
        if request.transfer is None:
            return None
        if "opaque_state" not in request.transfer:
            raise InferenceError("the prompt was computed by another kind of engine")
        fields = parameters_of(request.transfer, self._results.Logprob)
        return disaggregated(**fields | {"request_type": "generation_only"})

    def _parameters(self, request: Generate) -> Any:
        """Make TensorRT-LLM's SamplingParams."""
        fields = sampling_fields(request, self._context)
        if guided := guided_fields(request):
            fields["guided_decoding"] = self._sampling.GuidedDecodingParams(**guided)
        vocabulary = int(self._config.get("vocab_size") or 0)
        if wanted := biases(request, vocabulary):
            torch = importlib.import_module("torch")
            bias = torch.zeros(vocabulary, dtype=torch.float32)
            for token, value in wanted.items():
                bias[token] = value
            fields["embedding_bias"] = bias
        try:
            return self._sampling.SamplingParams(**fields)
        except TypeError as error:
            raise InvalidArgument(f"the installed TensorRT-LLM: {error}") from None

    async def _follow(self, take: Callable[[], Awaitable[None]]) -> None:
        """Take again and again what TensorRT-LLM tells beside its answers; without it the model serves all the same."""
        await self._begun.wait()  # before the first request there is nothing to iterate over
        try:
            while True:
                await take()
                await asyncio.sleep(PAUSE_S)
        except Exception as error:  # noqa: BLE001  whatever it is, answers do not depend on it
            _log.error("not_followed", what=take.__name__, error=f"{type(error).__name__}: {error}")

    async def _follow_events(self) -> None:
        """Tell KV events on as they come; TensorRT-LLM's iterator ends when there is none for a while."""
        async for event in self._llm.get_kv_cache_events_async(timeout=POLL_S):
            if events := self._book.translate(event):
                self._sinks.on_events(events)

    async def _follow_load(self) -> None:
        """Take the statistics of every step."""
        load = self._load
        async for step in self._llm.get_stats_async(timeout=POLL_S):
            load.running = int(step.get("numActiveRequests") or 0)
            load.waiting = int(step.get("numQueuedRequests") or 0)
            cache = step.get("kvCacheStats") or {}
            load.used_blocks = int(cache.get("usedNumBlocks") or 0)
            load.total_blocks = int(cache.get("maxNumBlocks") or 0)
