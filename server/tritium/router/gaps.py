"""Whether a worker's events came whole, and how a router that missed some finds back to the truth.

    IN_ORDER --a number is missing--> BEHIND --a dump that has it--> IN_ORDER
                                        |  ^
                                        +--+ events go on being applied, and are kept to follow the dump

The index is not cleared meanwhile: what it knows is stale in places, which costs a detour now and then; to know
nothing would cost every hit of the worker.
"""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

E = TypeVar("E")

MOST_KEPT = 10_000
"""Events kept while a dump is waited for; with more, only a later dump can follow them."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What to do with an event: apply it to the index, and ask the worker for a dump."""

    apply: bool
    ask: bool = False


class EventLine(Generic[E]):
    """The numbered events of one worker, as they come in: from the first on, or in the midst of them (`late`).

    A line that begins late is behind from the start, since what came before is in a dump alone.
    """

    def __init__(self, first: int = 0, *, late: bool = False, most_kept: int = MOST_KEPT) -> None:
        self._next = first
        self._late = late
        self._missing = -1
        """The last number that never came; -1 when none is missing."""
        self._kept: deque[tuple[int, E]] = deque()
        self._most_kept = most_kept
        self.lost = 0
        """Events that never came."""
        self.healed = 0
        """How often a dump closed a gap."""

    @property
    def behind(self) -> bool:
        """Tell whether a dump is waited for."""
        return self._late or self._missing >= 0

    @property
    def last(self) -> int:
        """Return the number of the last event that is known of; one below the first where there is none."""
        return self._next - 1

    def hear(self, number: int, event: E) -> Heard:
        """Take the next event in; one that was heard before is not to be applied again."""
        if number < self._next:
            return Heard(apply=False)
        gap = 0 if self._late else number - self._next
        if gap or self._late:
            self.lost += gap
            self._missing = number - 1
            self._late = False
        self._next = number + 1
        if self.behind:
            self._kept.append((number, event))
            if len(self._kept) > self._most_kept:
                self._missing = max(self._missing, self._kept.popleft()[0])
        return Heard(apply=True, ask=gap > 0)

    def expect(self, number: int) -> bool:
        """Note that events up to `number` were told; return whether that is news of a loss, and a dump to be asked."""
        if self._late or number < self._next:
            return False
        self.lost += number + 1 - self._next
        self._missing = number
        self._next = number + 1
        return True

    def heal(self, last_event: int) -> list[E] | None:
        """Return the events to apply after a dump that ends with `last_event`; None where it is too old to help."""
        if last_event < self._missing:
            return None
        after = [event for number, event in self._kept if number > last_event]
        self._next = max(self._next, last_event + 1)
        self._missing = -1
        self._late = False
        self._kept.clear()
        self.healed += 1
        return after
