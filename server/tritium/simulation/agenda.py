"""Virtual time: what happens when, in order; what is due at the same time happens in the order it was put down."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any


class Agenda:
    """What is still to happen. Time goes from one entry to the next, never by itself."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.happened = 0
        self._entries: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def at(self, when_s: float, act: Callable[..., None], *given: Any) -> None:
        """Have something happen at a time, not before now."""
        heapq.heappush(self._entries, (max(when_s, self.now_s), next(self._order), act, given))

    def run(self) -> None:
        """Let everything happen, until nothing is left to do."""
        entries = self._entries
        while entries:
            self.now_s, _, act, given = heapq.heappop(entries)
            self.happened += 1
            act(*given)
