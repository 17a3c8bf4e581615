"""The queue of the dynamic batcher: priority levels, each with its own policy on how long and how many may wait.

Jobs come out by level, 1 first, and within a level in the order of their arrival; jobs whose time is over stand
behind the others of their level (DELAY) or are given up (REJECT).
"""

from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from tritium.core.errors import Cancelled, DeadlineExceeded, Overloaded
from tritium.core.instance import Job
from tritium.core.scheduler.plan import GONE, Dropped
from tritium.core.scheduler.policy import BatchingPolicy, QueuePolicy

KEPT_LEVELS: Final = 16
"""From here on, empty levels are taken away: there may be 2^64, and clients choose among them."""


class _Level:
    __slots__ = ("delayed", "jobs", "policy")

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.jobs: deque[Job] = deque()
        self.delayed: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self.jobs) + len(self.delayed)


class PriorityQueue:
    """Waiting jobs in the order in which they will run; levels are made as jobs come for them."""

    def __init__(self, policy: BatchingPolicy) -> None:
        self._policy = policy
        self._levels: dict[int, _Level] = {}
        self._order: list[int] = []
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
        level = self._levels.get(job.priority)
        if level is None:
            level = self._new_level(job.priority)
        policy = level.policy
        if policy.max_size and len(level) >= policy.max_size:
            # Requests that nobody waits for any more must not keep others out.
            self._drop_cancelled(level)
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
        soonest_ns = 0
        for level in self._levels.values():
            on_time: deque[Job] = deque()
            for job in level.jobs:
                deadline_ns = job.deadline_ns
                if not deadline_ns or deadline_ns > now_ns:
                    on_time.append(job)
                    if deadline_ns and (not soonest_ns or deadline_ns < soonest_ns):
                        soonest_ns = deadline_ns
                elif level.policy.delays:
                    job.deadline_ns = 0
                    level.delayed.append(job)
                else:
                    self._count -= 1
                    self._dropped.append(Dropped(job, DeadlineExceeded("Request timeout expired")))
            level.jobs = on_time
        self.soonest_ns = soonest_ns

    def forget_cancelled(self) -> None:
        """Drop every job whose request was cancelled."""
        for level in self._levels.values():
            self._drop_cancelled(level)

    def take(self, count: int) -> list[Job]:
        """Remove and return the first `count` jobs."""
        taken: list[Job] = []
        for priority in self._order:
            level = self._levels[priority]
            for jobs in (level.jobs, level.delayed):
                while jobs and len(taken) < count:
                    taken.append(jobs.popleft())
            if len(taken) == count:
                break
        self._count -= len(taken)
        if not self._count:
            self.soonest_ns = 0
        if len(self._order) > KEPT_LEVELS:
            self._prune()
        return taken

    def dropped(self) -> Sequence[Dropped]:
        """Remove and return the jobs that were given up."""
        if not self._dropped:
            return ()
        dropped, self._dropped = self._dropped, []
        return dropped

    def __iter__(self) -> Iterator[Job]:
        """Go through the jobs in the order in which `take` removes them."""
        for priority in self._order:
            level = self._levels[priority]
            yield from level.jobs
            yield from level.delayed

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return self._count

    def _new_level(self, priority: int) -> _Level:
        level = self._levels[priority] = _Level(self._policy.queues.get(priority, self._policy.default_queue))
        insort(self._order, priority)
        return level

    def _prune(self) -> None:
        self._levels = {priority: level for priority, level in self._levels.items() if len(level)}
        self._order = sorted(self._levels)

    def _drop_cancelled(self, level: _Level) -> None:
        for jobs in (level.jobs, level.delayed):
            gone = [job for job in jobs if job.request.cancelled]
            if gone:
                wanted = [job for job in jobs if not job.request.cancelled]
                jobs.clear()
                jobs.extend(wanted)
                self._count -= len(gone)
                self._dropped += [Dropped(job, Cancelled(GONE)) for job in gone]
