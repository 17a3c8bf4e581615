"""What fetching costs a request beyond the moving of bytes, and which tiers made one late.

    allocated --the bytes came: loaded--> vLLM hears of it --its first step: resumed--> the rest is computed

The time between the bytes and the first step is the engine's, the same for every tier, and weighs most on short
prompts; it is learnt from requests that were alone. A tier whose bytes took longer than computing would have is left
alone: for a second, then two, up to a minute.
"""

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from statistics import median

from tritium.kv.block import Tier
from tritium.kv.rest import Rest

_SEEN = 9
_BELIEVED_FROM = 3


@dataclass(slots=True)
class _Fetch:
    """A request whose blocks are on their way."""

    began_s: float
    worth_s: float
    """How long computing what is fetched would have taken."""
    tiers: Collection[Tier]
    alone: bool = True
    load_s: float = 0.0


class Pace:
    """Follows fetches; times come from `clock`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._fetches: dict[str, _Fetch] = {}
        self._handovers: deque[float] = deque(maxlen=_SEEN)
        self._rests = {tier: Rest(clock) for tier in Tier}

    @property
    def handover_s(self) -> float:
        """Return what the engine takes between the bytes and the first step; 0 until it was seen some times."""
        return median(self._handovers) if len(self._handovers) >= _BELIEVED_FROM else 0.0

    def rests(self, tier: Tier) -> bool:
        """Return whether a tier is left alone for now."""
        return self._rests[tier].resting

    def began(self, request: str, tiers: Collection[Tier], worth_s: float) -> None:
        """Note that a request's blocks are asked for."""
        self._fetches[request] = _Fetch(self._clock(), worth_s, tiers)

    def loaded(self, request: str, seconds: float) -> None:
        """Note how long a request's bytes took; of several ranks the longest counts."""
        fetch = self._fetches.get(request)
        if fetch is None:
            return
        fetch.load_s = max(fetch.load_s, seconds)
        for tier in fetch.tiers:
            if seconds <= fetch.worth_s:
                self._rests[tier].end()
            else:
                self._rests[tier].begin()

    def stepped(self, requests: Collection[str]) -> None:
        """Note the requests of a step: those that waited for blocks go on, the others were not alone."""
        if not requests or not self._fetches:
            return
        for request in [request for request in requests if request in self._fetches]:
            fetch = self._fetches.pop(request)
            if fetch.alone and fetch.load_s:
                self._handovers.append(max(0.0, self._clock() - fetch.began_s - fetch.load_s))
        for fetch in self._fetches.values():
            fetch.alone = False

    def forget(self, request: str) -> None:
        """Stop following a request."""
        self._fetches.pop(request, None)
