"""The vllm engine: AsyncLLM of the installed vLLM, inside a worker process.

    submit -> a task per sequence on AsyncLLM.generate -> deltas of this turn of the loop -> one Step
    vLLM's event publisher -> EventReader -> on_events
    vLLM's scheduler statistics -> load of the next Step, counters

vLLM wakes all tasks of one engine step together, so that gathering what one turn of the loop brings makes one Step.
"""

import asyncio
import dataclasses
import os
import socket
from typing import TYPE_CHECKING, Any

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
from tritium.backends.vllm.events import EventReader
from tritium.backends.vllm.load import EngineLoad
from tritium.backends.vllm.plugin import WORKER_VARIABLE
from tritium.backends.vllm.sequences import delta_of, sampling_params
from tritium.backends.vllm.settings import Machine, VllmSettings, settings_for, visible_gpus
from tritium.core.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM


SHUTDOWN_S = 1.0
"""How long vLLM's processes may take to end by themselves: they hold nothing worth the seconds that torch takes."""


class VllmEngine:
    """A LanguageEngine; see `tritium.backends.engine` for its contract."""

    def __init__(self, source: EngineSource) -> None:
        self._source = source
        self._load = EngineLoad()
        self._events = EventReader()
        self._llm: AsyncLLM | None = None
        self._sinks: EngineSinks | None = None
        self._loras: dict[str, LoRARequest] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._deltas: list[Delta] = []
        self._stopping = False

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
        from vllm import __version__  # noqa: PLC0415  reads the environment just set
        from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
        from vllm.lora.request import LoRARequest  # noqa: PLC0415
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

        self._sinks = sinks
        self._llm = llm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(**settings.arguments),
            stat_loggers=[self._load.follow],  # type: ignore[list-item]  # by shape; its base class needs vLLM loaded
        )
        if llm.output_handler is not None:
            llm.output_handler.add_done_callback(self._dead)
        self._loras = {
            name: LoRARequest(name, number, path) for number, (name, path) in enumerate(settings.loras.items(), 1)
        }
        self._events.start(sinks.on_events)
        config = llm.vllm_config
        self._load.total_blocks = config.cache_config.num_gpu_blocks or 0
        return EngineInfo(
            engine="vllm",
            version=__version__,
            context_tokens=config.model_config.max_model_len,
            block_tokens=config.cache_config.block_size,
            total_blocks=self._load.total_blocks,
            max_sequences=config.scheduler_config.max_num_seqs,
            transfer="nixl" if config.kv_transfer_config is not None else "",
            notes=tuple(settings.notes),
        )

    def submit(self, request: Generate) -> None:
        """Queue one sequence."""
        task = asyncio.get_running_loop().create_task(self._generate(request))
        self._tasks[request.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(request.id, None))

    def abort(self, id: int) -> None:  # noqa: A002
        """Drop one sequence: vLLM frees its blocks when the task that reads it is cancelled."""
        if task := self._tasks.get(id):
            task.cancel()

    def metrics(self) -> dict[str, float]:
        """Return vLLM's counters."""
        return self._load.metrics() | {"tritium_kv_events_lost_total": float(self._events.lost)}

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
            side_channel_port=_free_port() if self._source.role is not Role.AGGREGATED else 0,
            environment=os.environ,
        )

    async def _generate(self, request: Generate) -> None:
        """Read one sequence from vLLM to its end."""
        from vllm.exceptions import VLLMClientError  # noqa: PLC0415
        from vllm.inputs import tokens_input  # noqa: PLC0415

        assert self._llm is not None
        first = True
        try:
            async for output in self._llm.generate(
                tokens_input(request.token_ids, cache_salt=request.cache_salt or None),
                sampling_params(request, self._source.role),
                str(request.id),
                lora_request=self._lora(request.lora),
                priority=request.priority,
            ):
                self._put(delta_of(request.id, output, first=first))
                first = False
        except (InvalidArgument, VLLMClientError, ValueError) as error:
            self._put(Delta(request.id, [], FinishReason.ERROR, error=str(error), invalid=True))
        except Exception as error:  # noqa: BLE001  one sequence's fault, whatever it is, is told and goes no further
            if self._llm.errored:
                return  # no fault of the sequence: the worker ends, and its fleet goes on elsewhere
            words = str(error) or type(error).__name__
            self._put(Delta(request.id, [], FinishReason.ERROR, error=f"vLLM: {words}"))

    def _lora(self, name: str) -> "LoRARequest | None":
        if not name:
            return None
        if name not in self._loras:
            raise InvalidArgument(f"the model has no LoRA adapter '{name}'; it has {', '.join(self._loras) or 'none'}")
        return self._loras[name]

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


def _free_port() -> int:
    """Return a TCP port of the loopback interface that is free now; vLLM takes a number, not a socket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
