"""The default scheduler: one request an execution, first come first served, whichever instance is idle."""

from collections import deque
from collections.abc import Sequence

from tritium.core.errors import Cancelled
from tritium.core.instance import Job
from tritium.core.scheduler.plan import GONE, AnyLane, Cut, Dropped, Reason

_SINGLE = Reason.SINGLE  # bound once: an enum looks its members up by name


class FifoPlan(AnyLane):
    """Jobs in the order of their arrival; see `plan.Plan`."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._dropped: list[Dropped] = []

    def add(self, job: Job, now_ns: int) -> None:  # noqa: ARG002 - a queue without timeouts needs no clock
        """Queue a job."""
        self._jobs.append(job)

    def take(self, now_ns: int, lane: int) -> Cut | None:  # noqa: ARG002 - every instance is as good
        """Return the oldest job that is still wanted."""
        jobs = self._jobs
        while jobs:
            job = jobs.popleft()
            if not job.request.cancelled:
                return Cut((job,), job.batch_size, _SINGLE)
            self._dropped.append(Dropped(job, Cancelled(GONE)))
        return None

    def dropped(self, now_ns: int) -> Sequence[Dropped]:  # noqa: ARG002 - nothing expires
        """Return the cancelled jobs that `take` came upon."""
        if not self._dropped:
            return ()
        dropped, self._dropped = self._dropped, []
        return dropped

    def clear(self) -> Sequence[Job]:
        """Remove and return every job."""
        jobs = list(self._jobs)
        self._jobs.clear()
        return jobs

    def wake_ns(self) -> int:
        """Never ask again unasked."""
        return 0

    def finished(self, cut: Cut, now_ns: int) -> None:
        """Ignore the end of an execution."""

    def waiting(self, lane: int) -> int:  # noqa: ARG002 - every instance is as good
        """Return how many jobs wait."""
        return len(self._jobs)

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._jobs)
