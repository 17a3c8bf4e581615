"""A batch on its way through an instance, and how many of them its process is given ahead."""

from collections.abc import Callable, Sequence

import structlog

from tritium.core.errors import Cancelled, InferenceError
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.request import InferResponse

log = structlog.get_logger("tritium.python")

MOST_AHEAD = 64
LEAST_AHEAD = 2
AHEAD_NS = 1_000_000
"""What a process holds should take it about so long, so that it never waits for us, and others can still be dropped."""


def answer(job: Job, response: InferResponse | InferenceError | None, *, final: bool) -> None:
    """Send one response to its client; one that cannot be delivered must not keep others from theirs."""
    try:
        job.reply.send(response, final=final)
    except Exception:
        log.exception("reply_failed", model=job.request.model_name, id=job.request.id)


class Execution:
    """One batch; `finish` is called once, and `keys` name its requests towards the process that it was handed to."""

    __slots__ = ("awaited", "finish", "jobs", "keys", "lost")

    def __init__(self, jobs: Sequence[Job], finish: Callable[[ExecutionTimes | None], None]) -> None:
        self.jobs = jobs
        self.finish = finish
        self.keys: list[int] = []
        self.lost = 0
        """How many processes died under it."""
        self.awaited = False
        """Whether executions of other models wait for some of it."""

    @property
    def cancelled(self) -> bool:
        """Tell whether nobody wants it any more."""
        for job in self.jobs:  # noqa: SIM110  # once a request: a generator costs five times as much
            if not job.request.cancelled:
                return False
        return True

    def leave(self) -> None:
        """Tell those that wait for its requests that no instance has them any more."""
        if self.awaited:
            for job in self.jobs:
                if job.request.wait is not None:
                    job.request.wait.leave(job.request)

    def refuse(self, error: InferenceError | None = None) -> None:
        """Answer every request with an error: the model has not seen it."""
        for job in self.jobs:
            answer(job, error or Cancelled("the request was cancelled before the model saw it"), final=True)
        self.finish(None)


class Window:
    """How many executions to hand over before the first has returned: many short ones, few long ones."""

    def __init__(self) -> None:
        self.size = LEAST_AHEAD
        self._usual_ns = 0.0

    def note(self, took_ns: int) -> None:
        """Learn from one execution."""
        self._usual_ns += (took_ns - self._usual_ns) / 8
        self.size = max(LEAST_AHEAD, min(MOST_AHEAD, int(AHEAD_NS / max(self._usual_ns, 1.0))))
