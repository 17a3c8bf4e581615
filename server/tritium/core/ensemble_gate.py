"""How many requests of one step of an ensemble may be under way: `max_inflight_requests`, over all its requests.

    enter --room--> inside ... leave --> the one that has waited longest
          --full--> waiting

What a decoupled member makes faster than the next step can take waits here, and the run that it belongs to lets the
member wait. Source: StepInflightRequestLimiter in Triton core, ensemble_scheduler.cc.
"""

from collections import deque
from typing import Protocol


class Passer(Protocol):
    """A request that goes through the gate."""

    @property
    def wanted(self) -> bool:
        """Tell whether anybody still waits for its answer."""
        ...

    def submit(self) -> None:
        """Start it; `leave` is called when its last response has come, which may be before this returns."""
        ...


class StepGate:
    """The gate before one step."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        self._waiting: deque[Passer] = deque()
        self._admitting = False

    def enter(self, passer: Passer) -> None:
        """Start a request now, or when it is its turn."""
        self._waiting.append(passer)
        self._admit()

    def leave(self) -> None:
        """Make room, one request being over."""
        self._inside -= 1
        self._admit()

    def _admit(self) -> None:
        """Start what has room; one that is over at once makes room for the next in the same loop."""
        if self._admitting:
            return
        self._admitting = True
        try:
            while self._waiting and self._inside < self._most:
                passer = self._waiting.popleft()
                if passer.wanted:
                    self._inside += 1
                    passer.submit()
        finally:
            self._admitting = False
