"""What a server lends the schedulers of all its models, made once when it starts.

Usually there is nothing: no rate limiter, no response cache, and no test that wants requests held back.
"""

from dataclasses import dataclass
from typing import Final

from tritium.core.cache.store import Store
from tritium.core.scheduler.limiter import RateLimiter


@dataclass(frozen=True, slots=True)
class Facilities:
    """The parts that models share; `store` keeps the responses of those that ask for a cache.

    `hold_for` is TRITONSERVER_DELAY_SCHEDULER: how many requests must wait before a scheduler starts its first;
    `hold_backlog_for` is TRITONSERVER_BACKLOG_DELAY_SCHEDULER, the same for sequences that wait for a slot.
    """

    limiter: RateLimiter | None = None
    store: Store | None = None
    hold_for: int = 0
    hold_backlog_for: int = 0


NO_FACILITIES: Final = Facilities()
