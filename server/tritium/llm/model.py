"""A language model as the server sees it: a tokenizer, a template and a fleet of workers, under a repository name.

The OpenAI routes generate through `fleet` and `tokenizer`; KServe's infer, stream and generate come through `submit`
(`llm.facade` has vllm_backend's tensors), so that one loaded model answers every protocol.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tritium.cluster.fleet import Fleet
from tritium.compat.config.model import ModelConfig
from tritium.core.answer import Answer, Desk
from tritium.core.check import RequestCheck
from tritium.core.clock import SYSTEM_CLOCK
from tritium.core.errors import AlreadyExists, InferenceError, InvalidArgument, NotFound, Unavailable
from tritium.core.instance import ExecutionTimes
from tritium.core.ledger import Ledger
from tritium.core.model import Model
from tritium.core.request import InferRequest, InferResponse, Reply
from tritium.core.reshape import Reshape
from tritium.core.statistics import Statistics
from tritium.llm.facade import TextGeneration
from tritium.llm.tensors import TextRequest, read_request
from tritium.llm.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What holds where a request says nothing: sampling fields from generation_config.json, and LoRA names."""

    sampling: Mapping[str, Any] = field(default_factory=dict)
    loras: Mapping[str, str] = field(default_factory=dict)
    """Path of each adapter by the name that requests use; those that are there from the start."""


class LanguageModel(Model):
    """One version of a language model."""

    def __init__(
        self,
        config: ModelConfig,
        version: str,
        fleet: Fleet,
        tokenizer: Tokenizer,
        defaults: ModelDefaults | None = None,
    ) -> None:
        self.name = config.name
        self.version = version
        self.config = config
        self.statistics = Statistics()
        self.fleet = fleet
        self.tokenizer = tokenizer
        self.defaults = defaults or ModelDefaults()
        self.loras = dict(self.defaults.loras)
        """Path of each adapter that requests may use now."""
        self.loaded_s = int(time.time())
        self._check = RequestCheck(config)
        self._ledger = Ledger(self.statistics, SYSTEM_CLOCK, decoupled=config.decoupled)
        self._desk = Desk(self.name, version, self._ledger, SYSTEM_CLOCK, Reshape(config))
        self._encoding: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def ready(self) -> bool:
        """Tell whether a request submitted now can run."""
        return not self._closing and self.fleet.ready

    def admit(self) -> None:
        """Check that the model takes requests; while its workers restart it does, for the fleet holds them.

        Raises:
            Unavailable: it is being unloaded.
        """
        if self._closing:
            raise Unavailable(f"model '{self.name}' is being unloaded")

    async def load_lora(self, name: str, path: str) -> None:
        """Load an adapter, or load it anew from another path.

        Raises:
            InferenceError: the name is one of multi_lora.json, or the engine does not take the adapter.
        """
        if name in self.defaults.loras:
            raise AlreadyExists(f"the adapter '{name}' of model '{self.name}' comes from multi_lora.json")
        await self.fleet.load_lora(name, path)
        self.loras[name] = path

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter that was loaded at run time; requests under way with it finish.

        Raises:
            InferenceError: there is no such adapter, or it comes from multi_lora.json.
        """
        if name in self.defaults.loras:
            raise InvalidArgument(
                f"the adapter '{name}' of model '{self.name}' comes from multi_lora.json",
                hint="only adapters loaded at run time can be unloaded",
            )
        if self.loras.pop(name, None) is None:
            raise NotFound(f"model '{self.name}' has no adapter '{name}'")
        await self.fleet.unload_lora(name)

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Check the request, queue it, and answer it through `reply`."""
        try:
            self._check(request)
        except InferenceError as error:
            reply.send(error, final=True)
            return
        started_ns = time.monotonic_ns()
        answer = Answer(self._desk, request, reply, 1, started_ns)
        try:
            self.admit()
            asked = read_request(request)
            self._check_lora(asked)
        except InferenceError as error:
            answer.refuse(error)
            return
        counted = _CountedReply(answer, self._ledger, started_ns)
        generation = TextGeneration(request, counted, self.tokenizer, asked)
        task = asyncio.get_running_loop().create_task(generation.run(self.fleet))
        self._encoding.add(task)
        task.add_done_callback(self._encoding.discard)

    def count(self, started_ns: int, error: InferenceError | None = None) -> None:
        """Count one request that ended now; a generation is all compute, for its engine queues and batches inside."""
        taken_ns = time.monotonic_ns() - started_ns
        if error is not None:
            self._ledger.failure(error.reason, taken_ns)
            return
        times = ExecutionTimes(0, taken_ns, 0)
        self._ledger.execution(1, times)
        self._ledger.success(1, taken_ns, 0, times)

    async def close(self) -> None:
        """Refuse new requests, finish those that run, then end the workers."""
        self._closing = True
        if self._encoding:
            await asyncio.wait(self._encoding)
        await self.fleet.close()

    def _check_lora(self, asked: TextRequest) -> None:
        if not asked.lora:
            return
        if not self.loras:
            raise InvalidArgument("LoRA feature is not enabled.")
        if asked.lora not in self.loras:
            known = list(self.loras)
            raise InvalidArgument(f"LoRA {asked.lora} is not supported, we currently support {known}")


class _CountedReply:
    """The reply of one generation, entered into the model's books at its end."""

    __slots__ = ("_answer", "_ledger", "_started_ns")

    def __init__(self, answer: Answer, ledger: Ledger, started_ns: int) -> None:
        self._answer = answer
        self._ledger = ledger
        self._started_ns = started_ns
        answer.starting(started_ns)
        ledger.statistics.pending += 1

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Deliver one response."""
        self._answer.send(response, final=final)
        if final:
            times = ExecutionTimes(0, time.monotonic_ns() - self._started_ns, 0)
            self._ledger.statistics.pending -= 1
            self._ledger.execution(1, times)
            self._answer.executed(times)
