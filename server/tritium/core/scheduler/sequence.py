"""Sequence batching: the requests of one correlation id run in order, one at a time, on one instance.

    NEW --START--> WAITING --slot free--> BOUND --END or idle--> gone
                   (backlog)              (its requests go to the instance's own plan, one after the other)

An instance has max_batch_size slots where a control tensor tells its model the correlation id, and one where it
does not: such a model can only keep one sequence's state. With the direct strategy each request runs as a batch of
its own; with the oldest, requests of different sequences are batched dynamically.
Source: Triton core, sequence_batch_scheduler.cc.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tritium.compat.config.model import ModelConfig
from tritium.core.errors import Cancelled, InvalidArgument
from tritium.core.instance import Job
from tritium.core.scheduler.batcher import BatchingPlan
from tritium.core.scheduler.controls import Controls
from tritium.core.scheduler.fifo import FifoPlan
from tritium.core.scheduler.plan import GONE, Cut, Dropped, Plan
from tritium.core.scheduler.policy import BatchingPolicy, oldest_policy

CorrelationId = int | str


@dataclass(slots=True, eq=False)
class _Sequence:
    """One sequence; `lane` is its instance, -1 in the backlog; `busy` while one of its requests is under way."""

    correlation_id: CorrelationId
    touched_ns: int
    lane: int = -1
    busy: bool = False
    ended: bool = False
    waiting: deque[Job] = field(default_factory=deque)


@dataclass(slots=True)
class _Lane:
    """One instance: its free slots, and the plan that its sequences' next requests wait in."""

    free_slots: int
    plan: Plan


class SequencePlan:
    """Waiting requests of a model with sequence batching; see `plan.Plan`."""

    def __init__(self, config: ModelConfig, lanes: int) -> None:
        settings = config.proto.sequence_batching
        self._model = config.name
        self._controls = Controls(config)
        self._idle_ns = settings.max_sequence_idle_microseconds * 1000
        oldest = oldest_policy(config) if settings.HasField("oldest") else None
        slots = _slots(config, self._controls)
        self._lanes = [_Lane(slots, _inner(oldest)) for _ in range(lanes)]
        self._open: dict[CorrelationId, _Sequence] = {}
        """Sequences that may go on, the one untouched for longest first."""
        self._backlog: deque[_Sequence] = deque()
        self._under_way: dict[Job, _Sequence] = {}
        self._dropped: list[Dropped] = []
        self._count = 0

    def add(self, job: Job, now_ns: int) -> None:
        """Queue a request behind the others of its sequence.

        Raises:
            InvalidArgument: it belongs to no sequence, to one that has not started, or has a batch size.
        """
        step = job.request.sequence
        if job.batch_size > 1:
            raise InvalidArgument(
                f"inference request to model '{self._model}' must specify batch-size 1 due to requirements of "
                "sequence batcher"
            )
        if not step.correlation_id:
            raise InvalidArgument(
                f"inference request to model '{self._model}' must specify a non-zero or non-empty correlation ID"
            )
        self._expire(now_ns)
        # A sequence that is touched goes to the end of the row.
        sequence = self._open.pop(step.correlation_id, None)
        if sequence is None and not step.start:
            raise InvalidArgument(
                f"inference request for sequence {step.correlation_id} to model '{self._model}' must specify the "
                "START flag on the first request of the sequence"
            )
        try:
            controls = self._controls.tensors(step)
        except InvalidArgument:
            if sequence is not None:
                self._open[step.correlation_id] = sequence
            raise
        if sequence is None:
            sequence = _Sequence(step.correlation_id, now_ns)
            self._backlog.append(sequence)
        sequence.touched_ns = now_ns
        if step.end:
            sequence.ended = True
        else:
            self._open[step.correlation_id] = sequence
        job.request.inputs = [*job.request.inputs, *controls]
        sequence.waiting.append(job)
        self._count += 1
        self._bind(now_ns)
        self._feed(sequence, now_ns)

    def take(self, now_ns: int, lane: int) -> Cut | None:
        """Return the next requests of the instance's own sequences."""
        self._expire(now_ns)
        plan = self._lanes[lane].plan
        cut = plan.take(now_ns, lane)
        self._collect_dropped(plan, now_ns)
        if cut is not None:
            self._count -= len(cut.jobs)
        return cut

    def dropped(self, now_ns: int) -> Sequence[Dropped]:
        """Return the requests that were cancelled, each with the rest of its sequence."""
        self._expire(now_ns)
        for lane in self._lanes:
            self._collect_dropped(lane.plan, now_ns)
        if not self._dropped:
            return ()
        dropped, self._dropped = self._dropped, []
        return dropped

    def clear(self) -> Sequence[Job]:
        """Remove and return every job; sequences that wait for a slot are forgotten."""
        jobs = [job for lane in self._lanes for job in lane.plan.clear()]
        held = {*self._open.values(), *self._backlog, *self._under_way.values()}
        for sequence in held:
            jobs += sequence.waiting
            sequence.waiting.clear()
        self._backlog.clear()
        self._count = 0
        return jobs

    def wake_ns(self) -> int:
        """Return when the first sequence will have been idle for too long, or a delay ends."""
        moments = [moment for lane in self._lanes if (moment := lane.plan.wake_ns())]
        if self._open:
            moments.append(next(iter(self._open.values())).touched_ns + self._idle_ns)
        return min(moments, default=0)

    def finished(self, cut: Cut, now_ns: int) -> None:
        """Let the sequences of a batch go on."""
        for job in cut.jobs:
            self._go_on(self._under_way.pop(job), now_ns)

    def waiting(self, lane: int) -> int:
        """Return how many requests the instance could run now."""
        return len(self._lanes[lane].plan)

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return self._count

    def _feed(self, sequence: _Sequence, now_ns: int) -> None:
        """Hand the sequence's next request to its instance's plan, unless one is under way."""
        if sequence.lane < 0 or sequence.busy or not sequence.waiting:
            return
        job = sequence.waiting.popleft()
        sequence.busy = True
        self._under_way[job] = sequence
        self._lanes[sequence.lane].plan.add(job, now_ns)

    def _go_on(self, sequence: _Sequence, now_ns: int) -> None:
        sequence.busy = False
        if sequence.waiting:
            self._feed(sequence, now_ns)
        elif sequence.ended:
            self._release(sequence, now_ns)

    def _bind(self, now_ns: int) -> None:
        """Give free slots to the sequences that have waited longest, on the instance with most of them free."""
        while self._backlog:
            index, lane = max(enumerate(self._lanes), key=lambda pair: pair[1].free_slots)
            if not lane.free_slots:
                return
            lane.free_slots -= 1
            sequence = self._backlog.popleft()
            sequence.lane = index
            self._feed(sequence, now_ns)

    def _release(self, sequence: _Sequence, now_ns: int) -> None:
        if sequence.lane >= 0:
            self._lanes[sequence.lane].free_slots += 1
            sequence.lane = -1
        elif sequence in self._backlog:
            self._backlog.remove(sequence)
        self._bind(now_ns)

    def _expire(self, now_ns: int) -> None:
        """End the sequences that nobody has touched for too long and that have nothing to do."""
        for _ in range(len(self._open)):
            sequence = next(iter(self._open.values()))
            if now_ns < sequence.touched_ns + self._idle_ns:
                return
            del self._open[sequence.correlation_id]
            if sequence.busy or sequence.waiting:
                sequence.touched_ns = now_ns
                self._open[sequence.correlation_id] = sequence
            else:
                self._release(sequence, now_ns)

    def _collect_dropped(self, plan: Plan, now_ns: int) -> None:
        """Take a cancelled request out together with its sequence, which has lost a step."""
        for dropped in plan.dropped(now_ns):
            sequence = self._under_way.pop(dropped.job)
            lost = [dropped, *(Dropped(job, Cancelled(GONE)) for job in sequence.waiting)]
            sequence.waiting.clear()
            self._dropped += lost
            self._count -= len(lost)
            if self._open.get(sequence.correlation_id) is sequence:
                del self._open[sequence.correlation_id]
            self._release(sequence, now_ns)


def _slots(config: ModelConfig, controls: Controls) -> int:
    """Return how many sequences one instance may hold at a time."""
    if not controls.tells_sequences_apart:
        return 1
    settings = config.proto.sequence_batching
    candidates = settings.oldest.max_candidate_sequences if settings.HasField("oldest") else 0
    return max(1, candidates or config.max_batch_size)


def _inner(oldest: BatchingPolicy | None) -> Plan:
    return BatchingPlan(oldest) if oldest is not None else FifoPlan()
