"""The slots of one instance, in which sequences sit, and which of their requests run next.

    direct  the slot is the place in the batch: of every sequence its next request, or a null request that keeps the
            place of those that have none, up to the last slot that has one
    oldest  the next requests of the sequences, whatever their slots, batched dynamically

Source: DirectSequenceBatch and OldestSequenceBatch in Triton core's sequence_batch_scheduler.cc.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InferenceError
from tritium.core.implicit_state import SequenceState, States
from tritium.core.instance import Job
from tritium.core.request import InferResponse
from tritium.core.scheduler.batcher import BatchingPlan
from tritium.core.scheduler.controls import Controls
from tritium.core.scheduler.plan import Cut, Reason
from tritium.core.scheduler.policy import BatchingPolicy, oldest_policy

Signature = frozenset[tuple[str, tuple[int, ...]]]


@dataclass(slots=True, eq=False)
class LiveSequence:
    """One sequence, from its START until nothing of it is left.

    `lane` and `slot` say where it sits (-1: it waits for a slot, no longer than until `deadline_ns` if that is set).
    Its next request is `queued` in its lane, then `busy` in the instance; `ended` is a sequence that takes no more.
    """

    correlation_id: int | str
    touched_ns: int = 0
    lane: int = -1
    slot: int = -1
    queued: bool = False
    busy: bool = False
    ended: bool = False
    deadline_ns: int = 0
    waiting: deque[Job] = field(default_factory=deque)
    state: SequenceState | None = None


class Lane(Protocol):
    """The slots of one instance.

    Contract: `offer` says that one of its sequences has a request, or has got rid of one. `take` puts requests that
    were cancelled into `lost`; they have left their sequences, which have lost a step.
    """

    lost: list[Job]

    def offer(self, sequence: LiveSequence, now_ns: int) -> None:
        """Look at a sequence again."""
        ...

    def free(self, sequence: LiveSequence) -> bool:
        """Tell whether a sequence does not need its slot any more."""
        ...

    def take(self, now_ns: int) -> Cut | None:
        """Remove and return the next batch, if there is one now."""
        ...

    def wake_ns(self) -> int:
        """Return when to ask again although nothing has happened (0: never)."""
        ...

    def waiting(self) -> int:
        """Return how many requests could run now, or after a delay."""
        ...

    def clear(self) -> list[Job]:
        """Remove and return the requests that are not in their sequences any more."""
        ...


class _Nowhere:
    """Where the answers to null requests go."""

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Hear nothing."""


_NOWHERE: Final = _Nowhere()


class DirectLane:
    """Slots that are places in the batch; see `Lane`."""

    def __init__(
        self,
        slots: int,
        controls: Controls,
        states: States | None,
        policy: BatchingPolicy,
        *,
        delay_ns: int,
        utilization: float,
    ) -> None:
        self.lost: list[Job] = []
        self._slots = slots
        self._controls = controls
        self._states = states
        self._policy = policy
        self._delay_ns = delay_ns if utilization else 0
        self._utilization = utilization
        self._delayed_until_ns = 0
        self._ready: dict[int, LiveSequence] = {}
        """Sequences with a request, by slot."""

    def offer(self, sequence: LiveSequence, now_ns: int) -> None:  # noqa: ARG002 - the contract's
        """Look at a sequence again."""
        if sequence.waiting:
            self._ready[sequence.slot] = sequence

    def free(self, sequence: LiveSequence) -> bool:
        """Tell whether the last request has been handed out: the next batch may hold another sequence."""
        return sequence.ended and not sequence.waiting

    def take(self, now_ns: int) -> Cut | None:
        """Return the next requests of all sequences, each in its place."""
        self._delayed_until_ns = 0
        ready = self._next()
        if not ready or self._delays(ready, now_ns):
            return None
        for sequence in ready:
            _prepare(sequence, self._states)
        shapes = self._signature(ready[0]) if len(ready) > 1 else None
        fitting = [s for s in ready if s is ready[0] or self._signature(s) == shapes]
        placed = {sequence.slot: _dress(sequence, self._states) for sequence in fitting}
        for sequence in fitting:
            sequence.busy = True
            if not sequence.waiting:
                del self._ready[sequence.slot]
        jobs = list(placed.values())
        if self._slots == 1:
            return Cut(jobs, 1, Reason.SINGLE)
        pattern = jobs[0].request
        places = range(ready[-1].slot + 1)
        batch = [placed.get(slot) or Job(self._controls.null(pattern), _NOWHERE) for slot in places]
        return Cut(jobs, len(batch), self._because(len(jobs), len(ready)), batch)

    def wake_ns(self) -> int:
        """Return when the delay ends."""
        return self._delayed_until_ns

    def waiting(self) -> int:
        """Return how many sequences have a request."""
        return len(self._ready)

    def clear(self) -> list[Job]:
        """Forget all sequences; their requests are in them."""
        self._ready.clear()
        return []

    def _next(self) -> list[LiveSequence]:
        """Return the sequences whose next request can run, by slot."""
        for slot in [s for s, sequence in self._ready.items() if sequence.waiting[0].request.cancelled]:
            self.lost.append(self._ready.pop(slot).waiting.popleft())
        return [self._ready[slot] for slot in sorted(self._ready)]

    def _delays(self, ready: Sequence[LiveSequence], now_ns: int) -> bool:
        """Tell whether to wait for more slots to have a request."""
        if not self._delay_ns or len(ready) / self._slots >= self._utilization:
            return False
        until_ns = min(sequence.waiting[0].queued_ns for sequence in ready) + self._delay_ns
        if until_ns <= now_ns:
            return False
        self._delayed_until_ns = until_ns
        return True

    def _signature(self, sequence: LiveSequence) -> Signature | None:
        """Return what must be equal among the requests of a batch, or None where it always is."""
        if not self._policy.compares_shapes:
            return None
        ragged = self._policy.ragged
        state = sequence.state.tensors if sequence.state is not None else ()
        return frozenset(
            (tensor.name, () if tensor.name in ragged else tensor.shape[1:])
            for tensor in (*sequence.waiting[0].request.inputs, *state)
        )

    def _because(self, taken: int, ready: int) -> Reason:
        if taken < ready:
            return Reason.SHAPE
        if ready == self._slots:
            return Reason.FULL
        return Reason.DELAY if self._delay_ns else Reason.IDLE


class OldestLane:
    """Slots whose sequences' next requests are batched dynamically; see `Lane`."""

    def __init__(self, states: States | None, policy: BatchingPolicy, hold_for: int) -> None:
        self.lost: list[Job] = []
        self._states = states
        self._plan = BatchingPlan(policy, hold_for)
        self._queued: dict[Job, LiveSequence] = {}

    def offer(self, sequence: LiveSequence, now_ns: int) -> None:
        """Queue the sequence's next request, unless one is under way."""
        if sequence.queued or sequence.busy or not sequence.waiting:
            return
        _prepare(sequence, self._states)
        job = _dress(sequence, self._states)
        sequence.queued = True
        self._queued[job] = sequence
        self._plan.add(job, now_ns)

    def free(self, sequence: LiveSequence) -> bool:
        """Tell whether the last request has run."""
        return sequence.ended and not (sequence.waiting or sequence.queued or sequence.busy)

    def take(self, now_ns: int) -> Cut | None:
        """Return the next batch."""
        cut = self._plan.take(now_ns, 0)
        for dropped in self._plan.dropped(now_ns):
            self._queued.pop(dropped.job).queued = False
            self.lost.append(dropped.job)
        if cut is not None:
            for job in cut.jobs:
                sequence = self._queued.pop(job)
                sequence.queued, sequence.busy = False, True
        return cut

    def wake_ns(self) -> int:
        """Return when the delay ends."""
        return self._plan.wake_ns()

    def waiting(self) -> int:
        """Return how many requests are queued."""
        return len(self._plan)

    def clear(self) -> list[Job]:
        """Remove and return the queued requests."""
        for sequence in self._queued.values():
            sequence.queued = False
        self._queued.clear()
        return list(self._plan.clear())


def lane_of(config: ModelConfig, slots: int, controls: Controls, states: States | None, hold_for: int) -> Lane:
    """Return the slots of one instance, by the strategy that the configuration asks for."""
    settings = config.proto.sequence_batching
    policy = oldest_policy(config)
    if states is not None and states.vary:
        policy = replace(policy, compares_shapes=True)
    if settings.HasField("oldest"):
        return OldestLane(states, policy, hold_for)
    direct = settings.direct
    return DirectLane(
        slots,
        controls,
        states,
        policy,
        delay_ns=direct.max_queue_delay_microseconds * 1000,
        utilization=direct.minimum_slot_utilization,
    )


def _prepare(sequence: LiveSequence, states: States | None) -> None:
    """Begin the state of a sequence anew where its next request starts it."""
    if states is not None and (sequence.state is None or sequence.waiting[0].request.sequence.start):
        sequence.state = states.begin()


def _dress(sequence: LiveSequence, states: States | None) -> Job:
    """Remove and return a sequence's next request, with the sequence's state among its inputs."""
    job = sequence.waiting.popleft()
    if states is not None and sequence.state is not None:
        request = job.request
        request.inputs = [*request.inputs, *sequence.state.tensors]
        request.outputs = states.ask(request.outputs)
        job.state = sequence.state
    return job
