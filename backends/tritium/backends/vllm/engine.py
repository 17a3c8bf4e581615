"""The vllm engine: AsyncLLM of the installed vLLM, inside a worker process.

    submit -> AsyncLLM.add_request -> its outputs, a call each -> deltas of this turn of the loop -> one Step
    pool   -> a task per prompt on AsyncLLM.encode -> Pooled
    vLLM's event publisher -> EventReader -> on_events
    vLLM's scheduler statistics -> load of the next Step, counters

vLLM hands out all outputs of one engine step together, so that what one turn of the loop brings makes one Step.
"""

import asyncio
import dataclasses
import os
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from tritium.backends.engine import (
    Delta,
    EngineInfo,
    EngineSinks,
    EngineSource,
    FinishReason,
    Generate,
    MetricFamily,
    Pool,
    Pooled,
    Role,
    Step,
)
from tritium.backends.event_reader import EventReader
from tritium.backends.loopback import free_port
from tritium.backends.transfer.check import TransferCheck, begin_check
from tritium.backends.vllm.adapters import VllmAdapters
from tritium.backends.vllm.events import translate
from tritium.backends.vllm.load import VllmLoad
from tritium.backends.vllm.media import media_tokens_of, modalities_of, multi_modal_data, multi_modal_keys
from tritium.backends.vllm.metrics import own_metrics
from tritium.backends.vllm.plugin import WORKER_VARIABLE
from tritium.backends.vllm.pooling import pooled_of, pooling_params, tasks_of
from tritium.backends.vllm.sequences import delta_of, forbid_words, sampling_params
from tritium.backends.vllm.settings import Machine, VllmSettings, settings_for, visible_gpus
from tritium.backends.vllm.tiers.setting import CONNECTOR
from tritium.core.errors import InvalidArgument, SamplingRefused, Unavailable

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.config import KVTransferConfig
    from vllm.v1.engine.async_llm import AsyncLLM


SHUTDOWN_S = 1.0
"""How long vLLM's processes may take to end by themselves: they hold nothing worth the seconds that torch takes."""


class VllmEngine:
    """A LanguageEngine; see `tritium.backends.engine` for its contract."""

    def __init__(self, source: EngineSource) -> None:
        self._source = source
        self._load = VllmLoad()
        self._events = EventReader(translate)
        self._llm: AsyncLLM | None = None
        self._sinks: EngineSinks | None = None
        self._adapters: VllmAdapters | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """What is being handed to vLLM or taken back, and prompts that are pooled."""
        self._running: dict[int, str] = {}
        """vLLM's own name of each sequence that it has."""
        self._deltas: list[Delta] = []
        self._stopping = False

    @property
    def steps(self) -> int:
        """Return how many steps vLLM's scheduler told of."""
        return self._load.steps

    async def start(self, sinks: EngineSinks) -> EngineInfo:
        """Load the model. Blocks the loop for as long as vLLM takes: nothing else runs in a worker then.

        Raises:
            Unavailable: vLLM is not installed.
            InvalidArgument: model.json holds what vLLM does not have.
            Exception: whatever vLLM says.
        """
        # vLLM's own processes find out by this whose they are; it must stand before the first of them starts.
        os.environ[WORKER_VARIABLE] = str(os.getpid())
        try:
            import torch  # noqa: PLC0415  a worker alone imports it, when it loads
        except ImportError as error:
            raise Unavailable(f"vLLM is not installed ({error})", hint="pip install vllm") from error
        settings = self._settle(gpus=torch.cuda.device_count())
        os.environ.update(settings.environment)
        # It runs while vLLM loads, which takes many times as long.
        trial = await begin_check("nixl") if self._source.check_transfer else None
        from vllm import __version__  # noqa: PLC0415  reads the environment just set
        from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

        self._sinks = sinks
        self._llm = llm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(**settings.arguments),
            stat_loggers=[self._load.follow],  # type: ignore[list-item]  # by shape; its base class needs vLLM loaded
        )
        if llm.output_handler is not None:
            llm.output_handler.add_done_callback(self._dead)
        self._adapters = VllmAdapters(llm, settings.loras)
        self._events.start(sinks.on_events)
        check = await trial.result() if trial is not None else TransferCheck()
        config = llm.vllm_config
        self._load.total_blocks = config.cache_config.num_gpu_blocks or 0
        return EngineInfo(
            engine="vllm",
            version=__version__,
            context_tokens=config.model_config.max_model_len,
            block_tokens=config.cache_config.block_size,
            total_blocks=self._load.total_blocks,
            max_sequences=config.scheduler_config.max_num_seqs,
            transfer="nixl" if _moves_kv(config.kv_transfer_config) else "",
            transfer_path=check.path,
            transfer_bytes_s=check.bytes_s,
            notes=(*settings.notes, *check.notes),
            tasks=tasks_of(await llm.get_supported_tasks(), config.model_config.score_type),
            modalities=modalities_of(llm),
            media_tokens=media_tokens_of(llm),
            # With a reasoning parser a grammar holds from the end of the thoughts on, wherever that is.
            resumes=() if config.structured_outputs_config.reasoning_parser else ("structured_outputs",),
            structural_tags=config.structured_outputs_config.backend in ("auto", "xgrammar"),
            lora=config.lora_config is not None,
            roles=_roles(config.kv_transfer_config),
        )

    def submit(self, request: Generate) -> None:
        """Queue one sequence."""
        self._begin(request.id, self._generate(request))

    def pool(self, request: Pool) -> None:
        """Queue one prompt."""
        self._begin(request.id, self._pool(request))

    async def load_lora(self, name: str, path: str) -> None:
        """Load an adapter.

        Raises:
            InvalidArgument: vLLM does not take it.
        """
        assert self._adapters is not None
        await self._adapters.load(name, path)

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter."""
        assert self._adapters is not None
        await self._adapters.unload(name)

    def abort(self, id: int) -> None:  # noqa: A002
        """Drop one sequence or prompt, wherever it is."""
        if task := self._tasks.get(id):
            task.cancel()
        if (internal := self._running.pop(id, None)) is not None:
            assert self._llm is not None
            self._begin(id, self._llm.abort(internal, internal=True))

    def metrics(self) -> dict[str, float]:
        """Return vLLM's counters."""
        return self._load.metrics() | self._events.metrics()

    def own_metrics(self) -> list[MetricFamily]:
        """Return the metrics that vLLM keeps itself, and those of the tiers below its device."""
        return own_metrics() + self._load.tiers.families()

    async def stop(self) -> None:
        """End vLLM's processes."""
        self._stopping = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._events.close()
        if self._llm is not None:
            self._llm.shutdown(timeout=SHUTDOWN_S)

    def _settle(self, *, gpus: int) -> VllmSettings:
        from vllm.config.kv_transfer import KVConsumer  # noqa: PLC0415
        from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415

        return settings_for(
            self._source,
            known=[field.name for field in dataclasses.fields(AsyncEngineArgs)],
            machine=Machine(
                gpus=visible_gpus(gpus, os.environ),
                cores=sorted(os.sched_getaffinity(0)),
                memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            ),
            events_endpoint=self._events.endpoint,
            replay_endpoint=self._events.replay_endpoint,
            side_channel_port=free_port() if self._source.moves_kv else 0,
            either_role="kv_both" in get_args(KVConsumer),
            environment=os.environ,
        )

    def _begin(self, number: int, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number, None))

    async def _generate(self, request: Generate) -> None:
        """Hand one sequence to vLLM; what vLLM makes of it then comes to `_take`, a plain call a step."""
        assert self._llm is not None
        assert self._adapters is not None
        try:
            sampling = sampling_params(request)
            forbid_words(sampling, self._llm.tokenizer)
            collector = await self._llm.add_request(
                str(request.id),
                await _prompt(request),
                sampling,
                lora_request=self._adapters.get(request.lora),
                priority=request.priority,
            )
        except asyncio.CancelledError:
            await self._llm.abort(str(request.id))  # it may have got there already
            raise
        except Exception as error:  # noqa: BLE001  one sequence's fault, whatever it is, is told and goes no further
            self._fail(request, error)
            return
        self._running[request.id] = collector.request_id
        first = True

        def take(output: "RequestOutput | Exception") -> None:
            nonlocal first
            if request.id not in self._running:
                return  # aborted, of which vLLM tells its collector as well
            if isinstance(output, Exception):
                del self._running[request.id]
                self._fail(request, output)
                return
            if output.finished:
                del self._running[request.id]
            self._put(delta_of(request, output, first=first))
            first = False

        # vLLM puts outputs here for a task to be woken by; taken at once, a step costs no task a sequence.
        collector.put = take  # type: ignore[method-assign, assignment]
        if collector.output is not None:
            take(collector.output)  # type: ignore[arg-type]  # a sequence's, not a pooling's

    def _fail(self, request: Generate, error: Exception) -> None:
        assert self._llm is not None
        if not self._llm.errored:  # else the worker ends, and its fleet goes on elsewhere
            fault = _fault(error)
            self._put(
                Delta(request.id, [], FinishReason.ERROR, error=fault.words, invalid=fault.invalid, field=fault.field)
            )

    async def _pool(self, request: Pool) -> None:
        """Have vLLM pool one prompt."""
        from vllm.inputs import tokens_input  # noqa: PLC0415

        assert self._llm is not None
        assert self._adapters is not None
        assert self._sinks is not None
        pooled = Pooled(request.id, error="vLLM returned nothing")
        try:
            async for output in self._llm.encode(
                tokens_input(request.token_ids),
                pooling_params(request),
                str(request.id),
                lora_request=self._adapters.get(request.lora),
                priority=request.priority,
            ):
                pooled = pooled_of(request.id, output)
        except Exception as error:  # noqa: BLE001  one prompt's fault, whatever it is, is told and goes no further
            if self._llm.errored:
                return
            fault = _fault(error)
            pooled = Pooled(request.id, error=fault.words, invalid=fault.invalid)
        self._sinks.on_pooled(pooled)

    def _put(self, delta: Delta) -> None:
        if not self._deltas:
            asyncio.get_running_loop().call_soon(self._flush)
        self._deltas.append(delta)

    def _flush(self) -> None:
        assert self._sinks is not None
        deltas, self._deltas = self._deltas, []
        load = self._load
        self._sinks.on_step(Step(deltas, load.running, load.waiting, load.used_blocks))

    def _dead(self, _handler: "asyncio.Task[Any]") -> None:
        if not self._stopping and self._sinks is not None:
            self._sinks.on_death("vLLM's engine process died")


@dataclass(frozen=True, slots=True)
class _Fault:
    """What went wrong with a request, and whether the request is to blame."""

    words: str
    invalid: bool
    field: str = ""
    """The sampling field to blame, where it is known."""


_FORM_CHECK = "_validate_structured_outputs"
"""vLLM's function that reads a form (vllm/sampling_params.py): its errors, of four backends, have nothing in common."""


def _fault(error: Exception) -> _Fault:
    from vllm.exceptions import VLLMClientError, VLLMValidationError  # noqa: PLC0415

    if not str(error) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # EngineGenerateError, which says nothing itself
    if isinstance(error, SamplingRefused):
        return _Fault(error.told, invalid=True, field=error.field)
    if any(frame.name == _FORM_CHECK for frame in traceback.extract_tb(error.__traceback__)):
        return _Fault(str(error), invalid=True, field="structured_outputs")
    if isinstance(error, (InvalidArgument, VLLMClientError, ValueError)):
        field = error.parameter if isinstance(error, VLLMValidationError) else ""
        return _Fault(str(error), invalid=True, field=field or "")
    return _Fault(f"vLLM: {str(error) or type(error).__name__}", invalid=False)


def _roles(transfer: "KVTransferConfig | None") -> tuple[Role, ...]:
    """Return the roles that a worker can take as its connector was set up."""
    return tuple(Role) if transfer is not None and _moves_kv(transfer) and transfer.kv_role == "kv_both" else ()


def _moves_kv(transfer: "KVTransferConfig | None") -> bool:
    """Tell whether KV goes to other workers: tiers alone are a connector, too, and keep it."""
    return transfer is not None and transfer.kv_connector != CONNECTOR


async def _prompt(request: Generate) -> Any:
    """Return the prompt as vLLM takes it; with media, vLLM puts their tokens in the places of their placeholders."""
    from vllm.inputs import TokensPrompt, tokens_input  # noqa: PLC0415

    if not request.media:
        return tokens_input(request.token_ids, cache_salt=request.cache_salt or None)
    prompt = TokensPrompt(
        prompt_token_ids=request.token_ids,
        multi_modal_data=await asyncio.to_thread(multi_modal_data, request.media),
        multi_modal_uuids=multi_modal_keys(request.media),
    )
    if request.cache_salt:
        prompt["cache_salt"] = request.cache_salt
    return prompt
