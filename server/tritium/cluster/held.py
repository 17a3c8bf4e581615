"""Generations that no worker is there for: held, for so long at most, until one is ready.

    hold --a worker is ready--> release           --too long--> on_too_long

Other than those in `cluster.waiting` they have no order: as soon as there is a worker all of them go on.
"""

import asyncio
from collections.abc import Callable, Iterator

from tritium.cluster.flight import Flight


class Held:
    """The generations that are held. `on_too_long` is told of each after `within_s`, and is to release it."""

    def __init__(self, within_s: float, on_too_long: Callable[[Flight], None]) -> None:
        self.total = 0
        """How many were held so far."""
        self._within_s = within_s
        self._on_too_long = on_too_long
        self._timers: dict[Flight, asyncio.TimerHandle] = {}

    def __iter__(self) -> Iterator[Flight]:
        """Return those that are held now; they may be released meanwhile."""
        return iter(list(self._timers))

    def hold(self, flight: Flight) -> None:
        """Hold a generation. Harmless when repeated: its time goes on."""
        if flight in self._timers:
            return
        self.total += 1
        flight.watch.held()
        loop = asyncio.get_running_loop()
        self._timers[flight] = loop.call_later(self._within_s, self._on_too_long, flight)

    def release(self, flight: Flight) -> None:
        """Hold it no more. Harmless when it is not."""
        if timer := self._timers.pop(flight, None):
            timer.cancel()
            flight.watch.released()
