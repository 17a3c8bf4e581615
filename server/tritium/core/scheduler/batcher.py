"""The dynamic batcher: when is a batch good enough to run, and where is it cut?

    the waiting jobs, in order -> the longest run of equal shapes within max_batch_size
        a preferred size in it?                       -> cut there
        cannot grow, or its oldest waited too long?   -> run all of it
        otherwise                                     -> wait for more, until max_queue_delay

Source: Triton core, dynamic_batch_scheduler.cc, GetDynamicBatch().
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tritium.core.instance import Job
from tritium.core.scheduler.plan import AnyLane, Cut, Dropped, Reason
from tritium.core.scheduler.policy import BatchingPolicy
from tritium.core.scheduler.queue import PriorityQueue

Signature = frozenset[tuple[str, tuple[int, ...]]]


@dataclass(slots=True)
class _Pending:
    """What the waiting jobs would make: the whole batch, the best cut in it, and what keeps it from growing."""

    count: int = 0
    size: int = 0
    oldest_ns: int = 0
    preferred_count: int = 0
    preferred_size: int = 0
    preferred_because: Reason = Reason.PREFERRED
    closed: Reason | None = None


class BatchingPlan(AnyLane):
    """Waiting jobs of a model with dynamic batching; see `plan.Plan`.

    Nothing runs before `hold_for` jobs wait for the first time: that is what TRITONSERVER_DELAY_SCHEDULER asks for,
    with which tests see to it that requests come together.
    """

    def __init__(self, policy: BatchingPolicy, hold_for: int = 0) -> None:
        self._policy = policy
        self._hold_for = hold_for
        self._queue = PriorityQueue(policy)
        self._largest_preferred = policy.largest_preferred
        self._delayed_until_ns = 0
        # While a batch is delayed: how many elements it lacks for a size that ends the delay, and how many came since.
        self._lacking = 0
        self._came = 0

    def add(self, job: Job, now_ns: int) -> None:
        """Queue a job.

        Raises:
            Overloaded: its priority's queue is full.
        """
        self._queue.add(job, now_ns)
        self._came += job.batch_size

    def take(self, now_ns: int, lane: int) -> Cut | None:  # noqa: ARG002 - every instance is as good
        """Return a batch if one is good enough to run now."""
        if self._lacking and self._delayed(now_ns):
            return None
        self._delayed_until_ns = self._lacking = 0
        if self._hold_for:
            if len(self._queue) < self._hold_for:
                return None
            self._hold_for = 0
        self._queue.expire(now_ns)
        if not len(self._queue):
            return None
        pending = self._pending()
        if not pending.count:
            return None
        overdue = 0 < self._policy.max_delay_ns <= now_ns - pending.oldest_ns
        if pending.preferred_count and not overdue:
            return self._cut(pending.preferred_count, pending.preferred_size, pending.preferred_because)
        if pending.closed is not None:
            return self._cut(pending.count, pending.size, pending.closed)
        if overdue:
            return self._cut(pending.count, pending.size, Reason.DELAY)
        if pending.size >= self._largest_preferred:
            return self._cut(pending.count, pending.size, Reason.FULL)
        if not self._policy.max_delay_ns:
            return self._cut(pending.count, pending.size, Reason.IDLE)
        self._delay(pending)
        return None

    def dropped(self, now_ns: int) -> Sequence[Dropped]:
        """Return the jobs that were cancelled, or whose time is over."""
        if 0 < self._delayed_until_ns <= now_ns:
            self._delayed_until_ns = self._lacking = 0
        self._queue.expire(now_ns)
        return self._queue.dropped()

    def clear(self) -> Sequence[Job]:
        """Remove and return every job."""
        self._delayed_until_ns = self._lacking = 0
        return self._queue.take(len(self._queue))

    def wake_ns(self) -> int:
        """Return the nearer of the end of a delay and the next deadline in the queue."""
        moments = [moment for moment in (self._delayed_until_ns, self._queue.soonest_ns) if moment]
        return min(moments, default=0)

    def finished(self, cut: Cut, now_ns: int) -> None:
        """Ignore the end of an execution."""

    def waiting(self, lane: int) -> int:  # noqa: ARG002 - every instance is as good
        """Return how many jobs wait; none as long as their batch is delayed, and nothing that came can end that."""
        return 0 if self._came < self._lacking else len(self._queue)

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._queue)

    def _delay(self, pending: _Pending) -> None:
        """Wait for company until the oldest job's time is over."""
        self._delayed_until_ns = pending.oldest_ns + self._policy.max_delay_ns
        if not self._policy.compares_shapes:
            self._lacking = min(size for size in self._policy.preferred_sizes if size > pending.size) - pending.size
            self._came = 0

    def _delayed(self, now_ns: int) -> bool:
        """Tell, without looking at the jobs, that their batch has still to wait."""
        soonest_ns = self._queue.soonest_ns
        return (
            self._came < self._lacking and now_ns < self._delayed_until_ns and (not soonest_ns or now_ns < soonest_ns)
        )

    def _cut(self, count: int, size: int, because: Reason) -> Cut:
        return Cut(self._queue.take(count), size, because)

    def _pending(self) -> _Pending:
        policy = self._policy
        pending = _Pending()
        shapes: Signature = frozenset()
        cancelled = False
        for job in self._queue:
            if job.request.cancelled:
                cancelled = True
                continue
            grown = pending.size + job.batch_size
            if pending.count:
                if grown > self._largest_preferred and not pending.preferred_count:
                    pending.preferred_count, pending.preferred_size = pending.count, pending.size
                    pending.preferred_because = Reason.FULL
                if grown > policy.max_size:
                    pending.closed = Reason.FULL
                    break
                if policy.compares_shapes and (other := self._shapes(job)) != shapes:
                    pending.closed = Reason.SHAPE if _names(other) == _names(shapes) else Reason.INPUTS
                    break
            elif policy.compares_shapes:
                shapes = self._shapes(job)
            if not pending.count or job.queued_ns < pending.oldest_ns:
                pending.oldest_ns = job.queued_ns
            pending.count += 1
            pending.size = grown
            if grown in policy.preferred_sizes:
                pending.preferred_count, pending.preferred_size = pending.count, grown
                pending.preferred_because = Reason.PREFERRED
        if cancelled:
            self._queue.forget_cancelled()
        return pending

    def _shapes(self, job: Job) -> Signature:
        """Return what must be equal among the jobs of a batch: the inputs given, and their shapes unless ragged."""
        ragged = self._policy.ragged
        return frozenset(
            (tensor.name, () if tensor.name in ragged else tensor.shape[1:]) for tensor in job.request.inputs
        )


def _names(signature: Signature) -> set[str]:
    return {name for name, _ in signature}
