"""What every scheduler is: a plan that is told of jobs and asked, for an idle instance, what to run next.

A plan holds no clock, starts nothing and answers nobody. `runner` drives it:

    add(job, now) ... take(now, lane) -> Cut | None ... dropped() -> jobs to refuse
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from tritium.core.errors import InferenceError
from tritium.core.instance import Job

GONE: Final = "the request was cancelled before it ran"


class Reason(StrEnum):
    """Why a batch was cut where it was."""

    SINGLE = "single"
    """The model takes one request an execution."""
    PREFERRED = "preferred"
    """The batch has a preferred size."""
    FULL = "full"
    """The next request would make the batch larger than allowed, or than the largest preferred size."""
    SHAPE = "shape"
    """The next request has inputs of another shape."""
    INPUTS = "inputs"
    """The next request leaves out other optional inputs."""
    DELAY = "delay"
    """The oldest request has waited as long as max_queue_delay_microseconds allows."""
    IDLE = "idle"
    """Nothing more was waiting, and no delay is configured."""


@dataclass(slots=True, eq=False, init=False)
class Cut:
    """One batch to execute, and why it is not larger; `size` counts batch elements. Nobody changes it.

    `padded` is what the instance is given where that is more than `jobs`: null requests, which nobody waits for.
    """

    jobs: Sequence[Job]
    size: int
    because: Reason
    padded: Sequence[Job]

    # One is made for every execution, and an __init__ that dataclass writes is not compiled.
    def __init__(self, jobs: Sequence[Job], size: int, because: Reason, padded: Sequence[Job] = ()) -> None:
        self.jobs = jobs
        self.size = size
        self.because = because
        self.padded = padded

    @property
    def batch(self) -> Sequence[Job]:
        """Return what the instance executes."""
        return self.padded or self.jobs


@dataclass(frozen=True, slots=True)
class Dropped:
    """A job that will not run, and what to tell its client."""

    job: Job
    error: InferenceError


class Plan(Protocol):
    """The waiting jobs of one model.

    Contract: a job is in the plan from `add` until it is in a cut or among the dropped. `lane` is the index of
    the instance that asks. Moments are monotonic nanoseconds.
    """

    def add(self, job: Job, now_ns: int) -> None:
        """Queue a job.

        Raises:
            InferenceError: the job cannot wait here (queue full, sequence unknown); the plan has not kept it.
        """
        ...

    def take(self, now_ns: int, lane: int) -> Cut | None:
        """Remove and return the batch that the instance should execute now, if any."""
        ...

    def dropped(self, now_ns: int) -> Sequence[Dropped]:
        """Remove and return the jobs whose time is over or whose client is gone."""
        ...

    def clear(self) -> Sequence[Job]:
        """Remove and return every job."""
        ...

    def wake_ns(self) -> int:
        """Return when to ask again although no job arrives (0: never)."""
        ...

    def finished(self, cut: Cut, now_ns: int) -> None:
        """Learn that an execution is over."""
        ...

    def waiting(self, lane: int) -> int:
        """Return how many jobs the instance could be given, now or after a delay."""
        ...

    def open_lane(self, lane: int, now_ns: int) -> None:
        """Learn of an instance more."""
        ...

    def close_lane(self, lane: int) -> None:
        """Tie nothing more to an instance, which is about to leave."""
        ...

    def bound(self, lane: int) -> bool:
        """Tell whether something waits, or may still come, that only this instance can run."""
        ...

    def __len__(self) -> int:
        """Return how many jobs wait."""
        ...


class AnyLane:
    """What a plan says of instances to which nothing is ever tied."""

    def open_lane(self, lane: int, now_ns: int) -> None:
        """Learn of an instance more."""

    def close_lane(self, lane: int) -> None:
        """Learn that an instance is about to leave."""

    def bound(self, lane: int) -> bool:  # noqa: ARG002 - of none
        """Say that whatever waits, another instance can run."""
        return False
