"""Sequence batching: the requests of one correlation id run in order, one at a time, in one slot of one instance.

    NEW --START--> WAITING --slot free--> SEATED --END, idle or a step cancelled--> gone
                   (backlog)              (its lane decides what runs next)

An instance has max_batch_size slots, or max_candidate_sequences with the oldest strategy. A sequence is idle from
when its last request arrived, or was handed to the instance. Iterative sequences are made here, one for each request:
it is executed until its instance does not ask for it again.
Source: Triton core, sequence_batch_scheduler.cc.
"""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from tritium.compat.config.model import ModelConfig
from tritium.core.errors import Cancelled, DeadlineExceeded, InferenceError, InvalidArgument
from tritium.core.implicit_state import States
from tritium.core.instance import Job
from tritium.core.request import SequenceStep
from tritium.core.scheduler.controls import Controls
from tritium.core.scheduler.plan import GONE, Cut, Dropped
from tritium.core.scheduler.sequence_lane import LiveSequence, lane_of

CorrelationId = int | str

NO_DATA: Final[Mapping[str, bytes]] = {}

_LOOK_AGAIN_NS: Final = 10_000_000
"""How soon to look again at instances that a sequence was moved to while another one was asking."""


class SequencePlan:
    """Waiting requests of a model with sequence batching; see `plan.Plan`.

    `initial` has the content of the files in which states start out, by state input. Nothing runs before `hold_for`
    requests wait in slots and `hold_backlog_for` others for one.
    """

    def __init__(
        self,
        config: ModelConfig,
        lanes: int,
        *,
        initial: Mapping[str, bytes] = NO_DATA,
        hold_for: int = 0,
        hold_backlog_for: int = 0,
    ) -> None:
        settings = config.proto.sequence_batching
        oldest = settings.HasField("oldest")
        slots = (settings.oldest.max_candidate_sequences if oldest else 0) or max(1, config.max_batch_size)
        states = States(config, initial) if settings.state else None
        self._model = config.name
        self._iterative = settings.iterative_sequence
        self._idle_ns = settings.max_sequence_idle_microseconds * 1000
        self._controls = Controls(config)
        self._added = self._controls.names | frozenset(states.inputs.values() if states else ())
        self._make_lane = partial(lane_of, config, slots, self._controls, states, hold_for)
        self._slots = slots
        self._lanes = {lane: self._make_lane() for lane in range(lanes)}
        self._closed: set[int] = set()
        """Instances that keep the sequences they have, and get no others."""
        self._hold_for = 0 if oldest else hold_for
        self._hold_backlog_for = hold_backlog_for
        self._free = [(slot, lane) for slot in range(slots) for lane in range(lanes)]
        """Slots without a sequence, as a heap: the instances fill up evenly."""
        self._open: dict[CorrelationId, LiveSequence] = {}
        """Sequences that may go on, the one untouched for longest first."""
        self._backlog: deque[LiveSequence] = deque()
        self._backlog_ns = 0
        """No sequence of the backlog is given up before this moment (0: never)."""
        self._of: dict[Job, LiveSequence] = {}
        self._dropped: list[Dropped] = []
        self._count = 0
        self._last_id = 0
        self._quiet: set[int] = set()
        """Instances that had nothing to run when they asked; nothing has happened to their sequences since."""
        self._look_ns = 0

    def add(self, job: Job, now_ns: int) -> None:
        """Queue a request behind the others of its sequence.

        Raises:
            InvalidArgument: it belongs to no sequence, to one that has not started, or has a batch size.
        """
        step = self._step(job)
        controls = self._controls.tensors(step)
        self._expire(now_ns)
        sequence = self._open.get(step.correlation_id)
        if sequence is None:
            if not step.start:
                raise InvalidArgument(
                    f"inference request for sequence {step.correlation_id} to model '{self._model}' must specify the "
                    "START flag on the first request of the sequence"
                )
            sequence = LiveSequence(step.correlation_id)
            self._backlog.append(sequence)
        self._touch(sequence, now_ns)
        if step.end:
            sequence.ended = True
            del self._open[step.correlation_id]
        inputs = job.request.inputs
        if self._iterative:
            inputs = [tensor for tensor in inputs if tensor.name not in self._added]
        job.request.inputs = [*inputs, *controls]
        sequence.waiting.append(job)
        self._of[job] = sequence
        self._count += 1
        if sequence.lane >= 0:
            self._offer(sequence, now_ns)
            return
        self._seat(now_ns)
        if sequence.lane < 0 and job.request.timeout_us:
            self._shorten(sequence, now_ns + job.request.timeout_us * 1000)

    def take(self, now_ns: int, lane: int) -> Cut | None:
        """Return the next requests of the instance's own sequences."""
        self._expire(now_ns)
        slots = self._lanes[lane]
        cut = None if self._holds() else slots.take(now_ns)
        while slots.lost:
            job = slots.lost.pop()
            sequence = self._of[job]
            sequence.waiting.appendleft(job)
            self._drop(sequence, Cancelled(GONE), now_ns)
            if cut is None:
                cut = slots.take(now_ns)
        if cut is None:
            if not self._hold_for:
                self._quiet.add(lane)
            return None
        self._count -= len(cut.jobs)
        for job in cut.jobs:
            sequence = self._of[job]
            if self._open.get(sequence.correlation_id) is sequence:
                self._touch(sequence, now_ns)
            self._release(sequence, now_ns)
        return cut

    def dropped(self, now_ns: int) -> Sequence[Dropped]:
        """Return the requests that were cancelled, each with the rest of its sequence, or whose time is over."""
        self._expire(now_ns)
        if self._quiet:
            self._quiet -= {lane for lane in self._quiet if 0 < self._lanes[lane].wake_ns() <= now_ns}
        if 0 < self._look_ns <= now_ns:
            stirred = any(self.waiting(lane) for lane in self._lanes)
            self._look_ns = now_ns + _LOOK_AGAIN_NS if stirred else 0
        if not self._dropped:
            return ()
        dropped, self._dropped = self._dropped, []
        return dropped

    def clear(self) -> Sequence[Job]:
        """Remove and return every job that has not been taken; the sequences are over."""
        jobs = [job for lane in self._lanes.values() for job in lane.clear()]
        for sequence in {*self._of.values(), *self._open.values()}:
            jobs += sequence.waiting
            sequence.waiting.clear()
            sequence.ended = True
            if sequence.lane >= 0:
                self._vacate(sequence)
        for job in jobs:
            del self._of[job]
        self._open.clear()
        self._backlog.clear()
        self._count = 0
        return jobs

    def wake_ns(self) -> int:
        """Return when the first sequence will have been idle for too long, a delay ends, or a timeout is over."""
        moments = [moment for lane in self._lanes.values() if (moment := lane.wake_ns())]
        if self._open:
            moments.append(next(iter(self._open.values())).touched_ns + self._idle_ns)
        moments += [moment for moment in (self._backlog_ns, self._look_ns) if moment]
        return min(moments, default=0)

    def finished(self, cut: Cut, now_ns: int) -> None:
        """Let the sequences of a batch go on."""
        for job in cut.jobs:
            sequence = self._of.pop(job)
            sequence.busy = False
            if self._iterative and not job.again:
                self._close(sequence)
            if sequence.lane >= 0:
                self._offer(sequence, now_ns)
                self._release(sequence, now_ns)

    def waiting(self, lane: int) -> int:
        """Return how many requests the instance could be given, unless it has just said that it cannot be."""
        return 0 if lane in self._quiet else self._lanes[lane].waiting()

    def open_lane(self, lane: int, now_ns: int) -> None:
        """Seat sequences in an instance more, those first that wait for a slot."""
        self._lanes[lane] = self._make_lane()
        for slot in range(self._slots):
            heapq.heappush(self._free, (slot, lane))
        self._seat(now_ns)

    def close_lane(self, lane: int) -> None:
        """Let an instance keep its sequences to their end, and seat no others in it."""
        self._closed.add(lane)
        self._free = [(slot, other) for slot, other in self._free if other != lane]
        heapq.heapify(self._free)

    def bound(self, lane: int) -> bool:
        """Tell whether a sequence sits in the instance."""
        return any(sequence.lane == lane for sequence in (*self._open.values(), *self._of.values()))

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return self._count

    def _step(self, job: Job) -> SequenceStep:
        """Return where a request stands in its sequence, or begin one for it."""
        request = job.request
        if job.batch_size > 1:
            raise InvalidArgument(
                f"inference request to model '{self._model}' must specify batch-size 1 due to requirements of "
                "sequence batcher"
            )
        if not request.sequence.correlation_id:
            if not self._iterative:
                raise InvalidArgument(
                    f"inference request to model '{self._model}' must specify a non-zero or non-empty correlation ID"
                )
            self._last_id += 1
            request.sequence = SequenceStep(self._last_id, start=True)
        return request.sequence

    def _touch(self, sequence: LiveSequence, now_ns: int) -> None:
        sequence.touched_ns = now_ns
        self._open.pop(sequence.correlation_id, None)
        self._open[sequence.correlation_id] = sequence

    def _offer(self, sequence: LiveSequence, now_ns: int) -> None:
        self._quiet.discard(sequence.lane)
        self._lanes[sequence.lane].offer(sequence, now_ns)

    def _seat(self, now_ns: int) -> None:
        """Give free slots to the sequences that have waited longest."""
        while self._backlog and self._free:
            sequence = self._backlog.popleft()
            if any(job.request.cancelled for job in sequence.waiting):
                self._drop(sequence, Cancelled(GONE), now_ns)
                continue
            sequence.slot, sequence.lane = heapq.heappop(self._free)
            self._offer(sequence, now_ns)

    def _close(self, sequence: LiveSequence) -> None:
        """Let a sequence take no more requests."""
        sequence.ended = True
        if self._open.get(sequence.correlation_id) is sequence:
            del self._open[sequence.correlation_id]

    def _release(self, sequence: LiveSequence, now_ns: int) -> None:
        """Give a sequence's slot to the next one if it does not need it any more."""
        if sequence.lane >= 0 and self._lanes[sequence.lane].free(sequence):
            self._vacate(sequence)
            self._seat(now_ns)

    def _vacate(self, sequence: LiveSequence) -> None:
        if sequence.lane not in self._closed:
            heapq.heappush(self._free, (sequence.slot, sequence.lane))
        sequence.lane = sequence.slot = -1

    def _drop(self, sequence: LiveSequence, error: InferenceError, now_ns: int) -> None:
        """Give up everything of a sequence that has not run."""
        self._close(sequence)
        for job in sequence.waiting:
            del self._of[job]
            self._dropped.append(Dropped(job, error))
        self._count -= len(sequence.waiting)
        sequence.waiting.clear()
        self._release(sequence, now_ns)

    def _expire(self, now_ns: int) -> None:
        """End the sequences that have been idle for too long, and those that have waited too long for a slot."""
        if 0 < self._backlog_ns <= now_ns:
            late = [sequence for sequence in self._backlog if 0 < sequence.deadline_ns <= now_ns]
            for sequence in late:
                self._backlog.remove(sequence)
                self._drop(sequence, DeadlineExceeded("timeout of the corresponding sequence has been expired"), now_ns)
            self._backlog_ns = min((s.deadline_ns for s in self._backlog if s.deadline_ns), default=0)
        for _ in range(len(self._open)):
            oldest = next(iter(self._open.values()), None)
            # A slot that becomes free may end others: those in the backlog whose clients have gone.
            if oldest is None or now_ns < oldest.touched_ns + self._idle_ns:
                return
            if oldest.waiting or oldest.queued:
                self._touch(oldest, now_ns)
            else:
                if self._backlog:
                    self._look_ns = now_ns + _LOOK_AGAIN_NS
                self._close(oldest)
                self._release(oldest, now_ns)

    def _shorten(self, sequence: LiveSequence, deadline_ns: int) -> None:
        """Let a sequence wait for a slot no longer than until a moment."""
        sequence.deadline_ns = min(sequence.deadline_ns or deadline_ns, deadline_ns)
        self._backlog_ns = min(self._backlog_ns or deadline_ns, deadline_ns)

    def _holds(self) -> bool:
        """Tell whether a test wants more requests to come together first."""
        if not self._hold_for:
            return False
        behind = sum(len(sequence.waiting) for sequence in self._backlog)
        if self._count - behind < self._hold_for or behind < self._hold_backlog_for:
            return True
        self._hold_for = 0
        return False
