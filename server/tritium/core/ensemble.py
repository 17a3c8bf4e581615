"""A model made of other models: its configuration says which member takes which tensors.

The members are models of the same server, looked up for every request, so that a reloaded member is used from the
next request on. The ensemble itself executes nothing and has no queue; its members' times are counted as its own.
"""

import asyncio
from collections.abc import Callable

from tritium.compat.config import messages
from tritium.compat.config.model import ModelConfig
from tritium.core.check import RequestCheck
from tritium.core.clock import SYSTEM_CLOCK, Clock
from tritium.core.dataflow import Dataflow
from tritium.core.ensemble_gate import StepGate
from tritium.core.ensemble_run import EnsembleRun
from tritium.core.errors import InferenceError, Internal, Unavailable
from tritium.core.instance import ExecutionTimes
from tritium.core.ledger import Ledger
from tritium.core.model import Model
from tritium.core.request import InferRequest, Reply, Spans
from tritium.core.reshape import Reshape, ReshapedReply
from tritium.core.statistics import Statistics
from tritium.core.trace import TracedRequest

Resolve = Callable[[str, str], Model]
"""Finds a model by name and version ("" is the newest); raises InferenceError where there is none to serve."""


def _keep_silent(remark: str) -> None:
    """Hear a remark that nobody wants."""


class EnsembleModel(Model):
    """One version of an ensemble; `note` hears what is remarkable about a request and no error."""

    def __init__(
        self,
        config: ModelConfig,
        version: str,
        resolve: Resolve,
        *,
        note: Callable[[str], None] = _keep_silent,
        clock: Clock = SYSTEM_CLOCK,
        statistics: Statistics | None = None,
    ) -> None:
        self.name = config.name
        self.version = version
        self.config = config
        self.statistics = statistics or Statistics()
        self._resolve = resolve
        self._note = note
        self._clock = clock
        self._check = RequestCheck(config)
        self._reshape = Reshape(config)
        self._flow = Dataflow(config)
        self._ledger = Ledger(self.statistics, clock, decoupled=False)
        limit = config.proto.ensemble_scheduling.max_inflight_requests
        self._gates = [StepGate(limit) for _ in self._flow.steps] if limit else []
        self._running = 0
        self._idle = asyncio.Event()
        self._closing = False

    @property
    def ready(self) -> bool:
        """Tell whether every member is ready."""
        if self._closing:
            return False
        try:
            return all(member.ready for member in self._members())
        except InferenceError:
            return False

    @property
    def decoupled(self) -> bool:
        """Tell whether a request may have any number of responses: so it is if one of the members is decoupled."""
        if self.config.decoupled:
            return True
        try:
            return any(member.decoupled for member in self._members())
        except InferenceError:
            return False

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Check the request and send it through the members."""
        try:
            batch_size = self._check(request)
            if self._closing:
                raise Unavailable(messages.STOPPING)
            members = self._members()
        except InferenceError as error:
            # Without its traceback, which would hold this frame, the request and the reply in a circle.
            reply.send(error.with_traceback(None), final=True)
            return
        if self.statistics.latencies is not None:
            reply = self.statistics.latencies.watch(reply)
        if self._reshape.changes_inputs:
            request.inputs = self._reshape.inputs(request.inputs)
        if self._reshape.changes_outputs:
            reply = ReshapedReply(reply, self._reshape)
        course = self._flow.course(
            frozenset(output.name for output in request.outputs),
            tuple(index for index, member in enumerate(members) if member.decoupled),
        )
        account = _Account(self._ledger, self._clock, batch_size, self._end)
        if request.trace is not None:
            account.trace(request.trace, self.name, self.version, request)
        self._running += 1
        run = EnsembleRun(
            self.config,
            self.version,
            self._flow.steps,
            course,
            members,
            request,
            batch_size,
            reply,
            gates=self._gates,
            resolve=self._resolve,
            note=self._note,
            measured=account.add,
            ended=account.close,
        )
        try:
            run.start()
        except Exception as error:  # noqa: BLE001 - whatever a member raises, its ensemble's client is answered
            run.abort(Internal(f"{type(error).__name__}: {error}"))

    @property
    def nesting(self) -> int:
        """Return how many ensembles a request may be in at a time: this one, and the deepest of its members.

        Raises:
            InferenceError: a member is not there.
        """
        return 1 + max(member.nesting for member in self._members())

    async def close(self) -> None:
        """Refuse new requests and wait for those under way; members are closed by whoever loaded them."""
        self._closing = True
        while self._running:
            self._idle.clear()
            await self._idle.wait()

    def _members(self) -> list[Model]:
        """Return the member of every step."""
        try:
            return [self._resolve(step.model, step.version) for step in self._flow.steps]
        except InferenceError as error:
            raise type(error)(f"in ensemble '{self.name}', {error.message}", error.hint) from None

    def _end(self) -> None:
        self._running -= 1
        self._idle.set()


class _Account:
    """What one request of the ensemble cost: the sum of what its members took.

    A member may report its times after its last response, and so after the ensemble's: they are added then.
    """

    def __init__(self, ledger: Ledger, clock: Clock, batch_size: int, end: Callable[[], None]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._batch_size = batch_size
        self._end = end
        self._started_ns = clock.now_ns()
        self._times = ExecutionTimes(0, 0, 0)
        self._succeeded: bool | None = None
        self._traced: TracedRequest | None = None

    def trace(self, traced: TracedRequest, name: str, version: str, request: InferRequest) -> None:
        """Note the beginning, and later the end, in the trace of the request."""
        self._traced = traced
        traced.start(name, version, request.id, self._started_ns)
        traced.enqueue(request.inputs, self._started_ns)

    def add(self, spans: Spans) -> None:
        """Take note of how long a member took."""
        if self._succeeded:
            statistics = self._ledger.statistics
            for counters in (statistics, statistics.batches[self._batch_size]):
                counters.compute_input.ns += spans.input_ns
                counters.compute_infer.ns += spans.infer_ns
                counters.compute_output.ns += spans.output_ns
        elif self._succeeded is None:
            times = self._times
            self._times = ExecutionTimes(
                times.input_ns + spans.input_ns, times.infer_ns + spans.infer_ns, times.output_ns + spans.output_ns
            )

    def close(self, error: InferenceError | None) -> None:
        """Count the request."""
        self._succeeded = error is None
        took_ns = self._clock.now_ns() - self._started_ns
        if error is None:
            self._ledger.success(self._batch_size, took_ns, 0, self._times)
            self._ledger.execution(self._batch_size, self._times)
        else:
            self._ledger.failure(error.reason, took_ns)
        if self._traced is not None:
            self._traced.end(self._clock.now_ns())
        self._end()
