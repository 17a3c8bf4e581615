"""A name under which a language model is asked in tensors, with a surface, books and statistics of its own.

submit -> shapes -> check -> Surface.read -> Run or pooling -> Answer -> client
"""

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable, Coroutine

import numpy as np
import structlog

from tritium.backends.engine import Pooled
from tritium.cluster.fleet import PoolRequest
from tritium.compat.config.model import ModelConfig
from tritium.core.answer import Answer, Desk
from tritium.core.check import RequestCheck
from tritium.core.clock import SYSTEM_CLOCK
from tritium.core.errors import Cancelled, InferenceError, Internal, InvalidArgument
from tritium.core.instance import ExecutionTimes
from tritium.core.ledger import Ledger
from tritium.core.model import Model
from tritium.core.request import InferRequest, InferResponse, Reply
from tritium.core.reshape import Reshape
from tritium.core.statistics import Statistics
from tritium.core.tensor import Tensor
from tritium.llm.facade.run import Run, encode, too_late
from tritium.llm.facade.surface import Embed, Generate, Stop, Surface, Target

log = structlog.get_logger("tritium")


class Door(Model):
    """A language model by one of its names."""

    def __init__(self, config: ModelConfig, version: str, surface: Surface) -> None:
        self.name = config.name
        self.version = version
        self.config = config
        self.statistics = Statistics()
        self.surface = surface
        self._ranks = {name: len(spec.dims) + bool(config.batches) for name, spec in config.inputs.items()}
        self._check = RequestCheck(config)
        self._ledger = Ledger(self.statistics, SYSTEM_CLOCK, decoupled=config.decoupled)
        self._desk = Desk(self.name, version, self._ledger, SYSTEM_CLOCK, Reshape(config))
        self._by_id: dict[str, set[Run]] = {}

    @property
    @abstractmethod
    def target(self) -> Target:
        """Return the language model behind the name."""

    @abstractmethod
    def admit(self) -> None:
        """Check that the model takes requests.

        Raises:
            Unavailable: it is being unloaded.
        """

    @abstractmethod
    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Let a request run; the model is not closed before it has."""

    @property
    def answers_once(self) -> bool:
        """Tell whether infer, which takes one response, is served: it is, for what does not stream."""
        return True

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Check the request, queue it, and answer it through `reply`."""
        try:
            self._fit_shapes(request)
            batch_size = self._check(request)
        except InferenceError as error:
            reply.send(error, final=True)
            return
        started_ns = time.monotonic_ns()
        answer = Answer(self._desk, request, reply, batch_size, started_ns)
        try:
            self.admit()
            call = self.surface.read(request, self.config, self.target)
            _refuse_streaming(call, self.config)
        except InferenceError as error:
            answer.refuse(error)
            return
        except Exception:
            log.exception("request_not_read", model=self.name, request_id=request.id)
            answer.refuse(_fault())
            return
        counted = _CountedReply(answer, self._ledger, started_ns, batch_size)
        if isinstance(call, Stop):
            self._stop(request, counted)
        elif isinstance(call, Embed):
            self.begin(self._embed(request, counted, call))
        else:
            run = Run(request, counted, call)
            if self.target.timeout_s:
                run.expire_after(self.target.timeout_s)
            if call.stoppable and request.id:
                self._by_id.setdefault(request.id, set()).add(run)
                counted.on_over = lambda: self._forget(request.id, run)
            self.begin(run.start(self.target.fleet, self.target.tokenizer))

    def count(self, started_ns: int, error: InferenceError | None = None) -> None:
        """Count one request that ended now; a generation is all compute, for its engine queues and batches inside."""
        taken_ns = time.monotonic_ns() - started_ns
        if error is not None:
            self._ledger.failure(error.reason, taken_ns)
            return
        times = ExecutionTimes(0, taken_ns, 0)
        self._ledger.execution(1, times)
        self._ledger.success(1, taken_ns, 0, times)

    def _fit_shapes(self, request: InferRequest) -> None:
        """Take [1] for [1,1] and [1,1] for [1]: backends and their clients disagree on the batch dimension."""
        batches = self.config.batches
        for index, tensor in enumerate(request.inputs):
            rank, shape = self._ranks.get(tensor.name), tensor.shape
            if rank is None or len(shape) == rank:
                continue
            if batches and len(shape) == rank - 1:
                shape = (1, *shape)
            elif len(shape) == rank + 1 and shape[0] == 1:
                shape = shape[1:]
            else:
                continue
            request.inputs[index] = Tensor(tensor.name, tensor.datatype, shape, tensor.data)

    def _stop(self, request: InferRequest, reply: "_CountedReply") -> None:
        if not request.id:
            reply.send(Internal("Trying to stop a request but request ID is not provided"), final=True)
            return
        for run in list(self._by_id.get(request.id, ())):
            run.stop()
        reply.send(InferResponse(self.name, self.version), final=True)

    def _forget(self, request_id: str, run: Run) -> None:
        runs = self._by_id[request_id]
        runs.discard(run)
        if not runs:
            del self._by_id[request_id]

    async def _embed(self, request: InferRequest, reply: Reply, call: Embed) -> None:
        """Pool one prompt; whatever goes wrong is answered, not raised."""
        target = self.target
        try:
            prompt = await encode(target.tokenizer, target.fleet, call.prompt, call.field)
            pooling = asyncio.ensure_future(
                target.fleet.pool(
                    PoolRequest(
                        prompt,
                        "embed",
                        parameters=call.parameters,
                        request_id=request.id,
                        priority=request.priority,
                    )
                )
            )
            request.on_cancel(lambda: _leave(pooling))
            async with asyncio.timeout(target.timeout_s or None):
                pooled = await pooling
        except InferenceError as error:
            reply.send(error, final=True)
        except TimeoutError:
            reply.send(too_late(target.timeout_s), final=True)
        except asyncio.CancelledError:
            reply.send(Cancelled("Request was cancelled"), final=True)
        except Exception:
            log.exception("embedding_failed", model=self.name, request_id=request.id)
            reply.send(_fault(), final=True)
        else:
            vector = np.frombuffer(pooled.data, dtype="<f4").tolist()
            reply.send(InferResponse(self.name, self.version, outputs=call.outputs(vector, len(prompt))), final=True)


class _CountedReply:
    """The reply of one request, entered into the model's books at its end, which `on_over` is told."""

    __slots__ = ("_answer", "_batch_size", "_ledger", "_started_ns", "on_over")

    def __init__(self, answer: Answer, ledger: Ledger, started_ns: int, batch_size: int) -> None:
        self.on_over: Callable[[], None] | None = None
        self._answer = answer
        self._ledger = ledger
        self._started_ns = started_ns
        self._batch_size = batch_size
        answer.starting(started_ns)
        ledger.statistics.pending += 1

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Deliver one response."""
        self._answer.send(response, final=final)
        if final:
            times = ExecutionTimes(0, time.monotonic_ns() - self._started_ns, 0)
            self._ledger.statistics.pending -= 1
            self._ledger.execution(self._batch_size, times)
            self._answer.executed(times)
            if self.on_over is not None:
                self.on_over()


def _fault() -> Internal:
    return Internal("the server failed; its log has the reason")


def _leave(pooling: "asyncio.Future[Pooled]") -> None:
    pooling.cancel()


def _refuse_streaming(call: object, config: ModelConfig) -> None:
    if isinstance(call, Generate) and call.streams and not config.decoupled:
        raise InvalidArgument(
            "Streaming is only supported in decoupled mode.",
            hint="model_transaction_policy { decoupled: true } in config.pbtxt",
        )
