"""A model of tensors: one version of it, served by instances of a backend.

    submit -> check -> plan (scheduler) -> instance.execute -> Answer -> the client's reply

What waits and what runs together is decided by a plan (tritium.core.scheduler); this file joins the parts.
"""

import asyncio
from collections.abc import Mapping, Sequence

from tritium.compat.config import messages
from tritium.compat.config.model import ModelConfig
from tritium.core.answer import Answer, Desk
from tritium.core.check import RequestCheck
from tritium.core.clock import SYSTEM_CLOCK, Clock
from tritium.core.errors import InferenceError, InvalidArgument, Unavailable
from tritium.core.facilities import NO_FACILITIES, Facilities
from tritium.core.instance import ExecutionTimes, Instance, Job
from tritium.core.ledger import Ledger
from tritium.core.model import Model
from tritium.core.request import InferRequest, Reply, SequenceStep
from tritium.core.reshape import Reshape
from tritium.core.scheduler.batcher import BatchingPlan
from tritium.core.scheduler.fifo import FifoPlan
from tritium.core.scheduler.limiter import Ticket
from tritium.core.scheduler.order import Turnstile
from tritium.core.scheduler.plan import Cut, Plan, Reason
from tritium.core.scheduler.policy import batching_policy
from tritium.core.scheduler.runner import Runner
from tritium.core.scheduler.sequence import NO_DATA, SequencePlan
from tritium.core.statistics import Statistics

_SINGLE = Reason.SINGLE  # bound once: an enum looks its members up by name


class TensorModel(Model):
    """One loaded version; made on the event loop that will serve it, with instances that are ready.

    `tickets` are the instances' places in the rate limiter, where there is one; `passive` instances get no requests.
    `initial_states` has the content of the files in which implicit states start out, by state input.
    """

    def __init__(
        self,
        config: ModelConfig,
        version: str,
        instances: Sequence[Instance],
        *,
        clock: Clock = SYSTEM_CLOCK,
        statistics: Statistics | None = None,
        facilities: Facilities = NO_FACILITIES,
        tickets: Sequence[Ticket] = (),
        passive: Sequence[Instance] = (),
        initial_states: Mapping[str, bytes] = NO_DATA,
    ) -> None:
        self.name = config.name
        self.version = version
        self.config = config
        self.statistics = statistics or Statistics()
        self._instances = list(instances)
        self._clock = clock
        self._check = RequestCheck(config)
        self._reshape = Reshape(config)
        self._ledger = Ledger(self.statistics, clock, decoupled=config.decoupled)
        self._desk = Desk(self.name, version, self._ledger, clock, self._reshape)
        self._closing = False
        self._turnstile = Turnstile() if _preserves_ordering(config) else None
        self._iterative = config.proto.sequence_batching.iterative_sequence
        self._tickets = dict(zip(instances, tickets, strict=False))
        self._passive = list(passive)
        self._leaving: set[asyncio.Task[None]] = set()
        plan = plan_for(config, len(instances), facilities, initial_states)
        self._runner = Runner(plan, instances, self, clock, pipelined=isinstance(plan, FifoPlan), tickets=tickets)

    @property
    def ready(self) -> bool:
        """Tell whether an instance can execute now, and its model says nothing else where it has a say."""
        if not self._closing:
            for instance in self._instances:
                if instance.healthy and getattr(instance, "willing", True):
                    return True
        return False

    @property
    def decoupled(self) -> bool:
        """Tell whether a request may have any number of responses."""
        return self.config.decoupled

    @property
    def answers_once(self) -> bool:
        """Tell whether infer is served; as `Model` has it, compiled here."""
        return not self.config.decoupled

    @property
    def _able(self) -> bool:
        """Tell whether an instance can execute, whatever the model says of its readiness."""
        if not self._closing:
            for instance in self._instances:  # once a request: a generator costs five times as much
                if instance.healthy:
                    return True
        return False

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Check the request, queue it, and answer it through `reply`."""
        try:
            batch_size = self._check(request)
        except InferenceError as error:
            # Without its traceback, which would hold this frame, the request and the reply in a circle.
            reply.send(error.with_traceback(None), final=True)
            return
        if self._reshape.changes_inputs:
            request.inputs = self._reshape.inputs(request.inputs)
        if self.statistics.latencies is not None:
            reply = self.statistics.latencies.watch(reply)
        now_ns = self._clock.now_ns()
        answer = Answer(self._desk, request, reply, batch_size, now_ns)
        job = Job(request, answer, batch_size, now_ns)
        try:
            if not self._able:
                raise Unavailable(self._why_not_ready())
            if request.wait is not None:
                request.wait.queue(request, self._instances)
            self._runner.add(job, now_ns)
        except InvalidArgument as error:
            # A wrong request is no failure of the model, wherever that is found out.
            reply.send(error.with_traceback(None), final=True)
            if request.trace is not None:
                request.trace.end(now_ns)
        except InferenceError as error:
            answer.refuse(error.with_traceback(None))
        else:
            self.statistics.pending += 1

    def health_changed(self) -> None:
        """Look at the instances again; to be called when one was lost or has come back."""
        self._runner.health_changed()

    def admit(self, instance: Instance, ticket: Ticket | None = None, *, passive: bool = False) -> None:
        """Take an instance more into service, beside those that are at work."""
        if passive:
            self._passive.append(instance)
            return
        self._instances.append(instance)
        if ticket is not None:
            self._tickets[instance] = ticket
        self._runner.admit(instance, ticket)

    def dismiss(self, instance: Instance) -> asyncio.Task[None]:
        """Take an instance out of service; the task ends once it has done what is tied to it, and is closed."""
        task = asyncio.get_running_loop().create_task(self._dismiss(instance))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def _dismiss(self, instance: Instance) -> None:
        if instance in self._passive:
            self._passive.remove(instance)
        else:
            await self._runner.dismiss(instance)
            self._instances.remove(instance)
            if instance in self._tickets:
                self._tickets.pop(instance).withdraw()
        await instance.close()

    async def close(self) -> None:
        """Refuse new requests, finish those that wait or run, then free the instances."""
        self._closing = True
        await self._runner.drain()
        await asyncio.gather(*self._leaving)
        for ticket in self._tickets.values():
            ticket.withdraw()
        await asyncio.gather(*(instance.close() for instance in (*self._instances, *self._passive)))

    def starting(self, cut: Cut, now_ns: int) -> None:
        """Take note that a batch leaves the queue (called by the runner)."""
        self.statistics.pending -= len(cut.jobs)
        if cut.because is not _SINGLE:
            self._ledger.cut(cut.because)
        for job in cut.jobs:
            job.started_ns = now_ns
            answer = _answer(job)
            answer.starting(now_ns)
            if job.state is not None:
                answer.state = job.state
            if self._turnstile is not None:
                answer.reply = self._turnstile.join(answer.reply)

    def executed(self, cut: Cut, times: ExecutionTimes | None) -> None:
        """Count an execution and its requests (called by the runner)."""
        if times is not None:
            self._ledger.execution(cut.size, times)
        for job in cut.jobs:
            if job.again:
                self._run_again(job)
            else:
                _answer(job).executed(times, later=job.later)

    def refuse(self, job: Job, error: InferenceError) -> None:
        """Answer a request that left the queue without running (called by the runner)."""
        self.statistics.pending -= 1
        _answer(job).refuse(error)

    def _run_again(self, job: Job) -> None:
        """Queue a request once more, as its instance has asked."""
        now_ns = self._clock.now_ns()
        job.again = False
        job.queued_ns = now_ns
        job.request.sequence = SequenceStep(job.request.sequence.correlation_id)
        try:
            if not self._iterative:
                raise InvalidArgument(
                    "Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while the model is not "
                    "configured to handle such a flag.",
                    hint="set iterative_sequence in its sequence_batching",
                )
            self._runner.add(job, now_ns)
        except InferenceError as error:
            job.reply.send(error.with_traceback(None), final=True)
            _answer(job).executed(None)
        else:
            self.statistics.pending += 1

    def _why_not_ready(self) -> str:
        if self._closing:
            return messages.STOPPING
        return f"Request for unavailable model: '{self.name}' version {self.version} has no healthy instance"


def plan_for(
    config: ModelConfig,
    instances: int,
    facilities: Facilities = NO_FACILITIES,
    initial_states: Mapping[str, bytes] = NO_DATA,
) -> Plan:
    """Return the scheduler that the configuration asks for."""
    if config.proto.HasField("sequence_batching"):
        return SequencePlan(
            config,
            instances,
            initial=initial_states,
            hold_for=facilities.hold_for,
            hold_backlog_for=facilities.hold_backlog_for,
        )
    if config.proto.HasField("dynamic_batching"):
        return BatchingPlan(batching_policy(config), facilities.hold_for)
    return FifoPlan()


def _preserves_ordering(config: ModelConfig) -> bool:
    proto = config.proto
    return bool(proto.dynamic_batching.preserve_ordering or proto.sequence_batching.oldest.preserve_ordering)


def _answer(job: Job) -> Answer:
    assert isinstance(job.reply, Answer)
    return job.reply
