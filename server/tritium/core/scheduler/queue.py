"""The queue of the dynamic batcher: priority levels, each with its own policy on how long and how many may wait.

Jobs come out by level, 1 first, and within a level in the order of their arrival; jobs whose time is over stand
behind the others of their level (DELAY) or are given up (REJECT).
"""

from collections import deque
from collections.abc import Iterator, Sequence

from tritium.core.errors import Cancelled, DeadlineExceeded, InferenceError, Overloaded
from tritium.core.instance import Job
from tritium.core.scheduler.plan import GONE, Dropped
from tritium.core.scheduler.policy import BatchingPolicy, QueuePolicy


class _Level:
    __slots__ = ("delayed", "jobs", "policy")

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.jobs: deque[Job] = deque()
        self.delayed: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self.jobs) + len(self.delayed)


class PriorityQueue:
    """Waiting jobs in the order in which they will run."""

    def __init__(self, policy: BatchingPolicy) -> None:
        self._policy = policy
        self._levels = {
            priority: _Level(policy.queues.get(priority, policy.default_queue))
            for priority in (range(1, policy.priority_levels + 1) if policy.priority_levels else (0,))
        }
        self._dropped: list[Dropped] = []
        self._count = 0
        self.soonest_ns = 0
        """No deadline passes before this moment (0: there is none)."""

    def add(self, job: Job, now_ns: int) -> None:
        """Queue a job at its priority's level.

        Raises:
            Overloaded: the level is full.
        """
        levels = self._policy.priority_levels
        if levels:
            asked = job.request.priority
            job.priority = asked if 1 <= asked <= levels else self._policy.default_priority
        level = self._levels[job.priority]
        policy = level.policy
        if policy.max_size and len(level) >= policy.max_size:
            # Requests that nobody waits for any more must not keep others out.
            self._drop(level, [waiting for waiting in level.jobs if waiting.request.cancelled], Cancelled(GONE))
            if len(level) >= policy.max_size:
                raise Overloaded(f"{job.request.about}Exceeds maximum queue size")
        level.jobs.append(job)
        self._count += 1
        timeout_us = policy.timeout_of(job.request.timeout_us)
        if timeout_us:
            job.deadline_ns = now_ns + timeout_us * 1000
            if not self.soonest_ns or job.deadline_ns < self.soonest_ns:
                self.soonest_ns = job.deadline_ns

    def expire(self, now_ns: int) -> None:
        """Give up, or put behind the others, every job whose deadline has passed."""
        if not self.soonest_ns or now_ns < self.soonest_ns:
            return
        left: list[int] = []
        for level in self._levels.values():
            late = [job for job in level.jobs if 0 < job.deadline_ns <= now_ns]
            if level.policy.delays:
                for job in late:
                    job.deadline_ns = 0
                    level.jobs.remove(job)
                    level.delayed.append(job)
            else:
                self._drop(level, late, DeadlineExceeded("Request timeout expired"))
            left += [job.deadline_ns for job in level.jobs if job.deadline_ns]
        self.soonest_ns = min(left, default=0)

    def forget(self, job: Job) -> None:
        """Drop a job whose request was cancelled."""
        self._drop(self._levels[job.priority], [job], Cancelled(GONE))

    def take(self, count: int) -> list[Job]:
        """Remove and return the first `count` jobs."""
        taken: list[Job] = []
        for level in self._levels.values():
            for jobs in (level.jobs, level.delayed):
                while jobs and len(taken) < count:
                    taken.append(jobs.popleft())
        self._count -= len(taken)
        return taken

    def dropped(self) -> Sequence[Dropped]:
        """Remove and return the jobs that were given up."""
        if not self._dropped:
            return ()
        dropped, self._dropped = self._dropped, []
        return dropped

    def __iter__(self) -> Iterator[Job]:
        """Go through the jobs in the order in which `take` removes them."""
        for level in self._levels.values():
            yield from level.jobs
            yield from level.delayed

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return self._count

    def _drop(self, level: _Level, jobs: Sequence[Job], error: InferenceError) -> None:
        for job in jobs:
            (level.jobs if job in level.jobs else level.delayed).remove(job)
            self._dropped.append(Dropped(job, error))
        self._count -= len(jobs)
