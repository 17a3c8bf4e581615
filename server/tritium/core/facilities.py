"""What a server lends the schedulers of all its models, made once when it starts.

`none` of it is the usual case: no rate limiter, no response cache, and no test that wants requests held back.
"""

from dataclasses import dataclass
from typing import Final

from tritium.core.scheduler.limiter import RateLimiter


@dataclass(frozen=True, slots=True)
class Facilities:
    """The parts that models share.

    `hold_for` is TRITONSERVER_DELAY_SCHEDULER: how many requests must wait before a scheduler starts its first;
    `hold_backlog_for` is TRITONSERVER_BACKLOG_DELAY_SCHEDULER, the same for sequences that wait for a slot.
    """

    limiter: RateLimiter | None = None
    hold_for: int = 0
    hold_backlog_for: int = 0


NO_FACILITIES: Final = Facilities()
