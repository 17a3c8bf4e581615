"""Workloads made from a seed: what fleets meet, in kinds, at a rate of requests a second.

    prefixes   20 long beginnings that all requests share, each with an ending of its own
    chat       conversations of several turns, over a few system prompts, with pauses between them
    mix        nine short prompts of ten, one long, about documents of which some are asked for often
    bursts     short prompts, a tenth of the time at eight times the usual rate
    tenants    customers with a system prompt each, of very unequal size, one of which comes in bursts

Lengths are drawn from log-normal distributions. The same kind, rate, time and seed give the same requests.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator

from tritium.core.errors import InvalidArgument
from tritium.simulation.request import Request, Workload

_PREFIX_BITS = 24
"""A shared stretch has fewer blocks than two to this; the names of its blocks are its number above these bits."""

_BURST_S, _CALM_S, _BURST_TIMES = 6.0, 54.0, 8.0


def make_workload(kind: str, *, rate: float, duration_s: float, block_tokens: int, seed: int = 0) -> Workload:
    """Return a workload of a kind, with `rate` requests a second on the average for so long.

    Raises:
        InvalidArgument: there is no such kind, or no time or rate.
    """
    if kind not in KINDS:
        raise InvalidArgument(f"there is no workload '{kind}'", hint=f"one of {', '.join(KINDS)}, or --trace FILE")
    if not (0 < rate < math.inf and 0 < duration_s < math.inf):
        raise InvalidArgument("a workload needs a rate and a duration above 0")

    def requests() -> Iterator[Request]:
        # Each call draws the same lots: every policy meets the same requests.
        draw = _Draw(random.Random(f"{kind} {seed}"), block_tokens)  # noqa: S311  it draws lots, not keys
        return KINDS[kind](draw, rate, duration_s)

    return Workload(kind, block_tokens, requests)


class _Draw:
    """Lots, lengths and names for one run through a workload."""

    def __init__(self, rng: random.Random, block_tokens: int) -> None:
        self.rng = rng
        self.block_tokens = block_tokens
        self._numbers = itertools.count()
        self._stretches = itertools.count(1)

    def length(self, median: float, spread: float, most: int) -> int:
        """Return a log-normal length; `spread` is the standard deviation of its logarithm."""
        return max(1, min(most, round(self.rng.lognormvariate(math.log(median), spread))))

    def arrivals(self, rate: float, duration_s: float) -> Iterator[float]:
        """Return the times of a Poisson process."""
        now_s = self.rng.expovariate(rate)
        while now_s < duration_s:
            yield now_s
            now_s += self.rng.expovariate(rate)

    def bursts(self, rate: float, duration_s: float) -> Iterator[float]:
        """Return the times of one whose rate jumps up for a part of every minute; `rate` is its mean."""
        calm = rate * (_BURST_S + _CALM_S) / (_BURST_TIMES * _BURST_S + _CALM_S)
        # Thinned out of one process of the highest rate, so that it stays one of chance.
        for now_s in self.arrivals(calm * _BURST_TIMES, duration_s):
            if now_s % (_BURST_S + _CALM_S) < _BURST_S or self.rng.random() < 1 / _BURST_TIMES:
                yield now_s

    def stretch(self) -> int:
        """Return a new stretch of text."""
        return next(self._stretches)

    def names(self, tokens: int, *stretches: tuple[int, int]) -> list[int]:
        """Return the names of the full blocks of so many tokens, made of stretches and the places where they end.

        A block that two stretches meet in bears the name of the later one.
        """
        names: list[int] = []
        for stretch, end in stretches:
            full = min(end, tokens) // self.block_tokens
            names += [stretch << _PREFIX_BITS | place for place in range(len(names), full)]
        return names

    def single(self, at_s: float, prompt: int, output: int, *, shared: tuple[int, int], tenant: str = "") -> Request:
        """Return a request that nothing follows: a shared stretch, then words of its own."""
        number = next(self._numbers)
        return Request(number, at_s, prompt, output, self.names(prompt, shared), tenant=tenant)

    def conversation(self, at_s: float, system: tuple[int, int], turns: int) -> Request:
        """Return the first turn of a conversation; every one has all the words before it in its prompt."""
        own, before = self.stretch(), system[1]
        session = f"session {own}"
        drawn = []
        for turn in range(turns):
            prompt = before + self.length(120, 0.8, 4_000)
            output = self.length(250, 0.7, 2_000)
            begins_s = at_s if not turn else self.rng.expovariate(1 / 20)
            before = prompt + output
            names = self.names(before, system, (own, before))
            drawn.append((next(self._numbers), begins_s, prompt, output, names))
        request: Request | None = None
        for number, begins_s, prompt, output, names in reversed(drawn):
            request = Request(number, begins_s, prompt, output, names, session=session, then=request)
        assert request is not None
        return request


def _prefixes(draw: _Draw, rate: float, duration_s: float) -> Iterator[Request]:
    shared = [(draw.stretch(), 6_000) for _ in range(20)]
    for at_s in draw.arrivals(rate, duration_s):
        yield draw.single(at_s, 6_000 + draw.length(400, 0.5, 4_000), 100, shared=draw.rng.choice(shared))


def _chat(draw: _Draw, rate: float, duration_s: float) -> Iterator[Request]:
    systems = [(draw.stretch(), 1_500) for _ in range(8)]
    turns = 5
    for at_s in draw.arrivals(rate / turns, duration_s):
        # Geometric: whoever goes on is as likely as before to go on again.
        count = 1
        while draw.rng.random() < 1 - 1 / turns and count < 40:
            count += 1
        yield draw.conversation(at_s, draw.rng.choice(systems), count)


def _mix(draw: _Draw, rate: float, duration_s: float) -> Iterator[Request]:
    documents = [(draw.stretch(), draw.length(16_000, 0.5, 60_000)) for _ in range(200)]
    popularity = [1 / place for place in range(1, len(documents) + 1)]
    for at_s in draw.arrivals(rate, duration_s):
        if draw.rng.random() < 0.1:
            document = draw.rng.choices(documents, popularity)[0]
            yield draw.single(
                at_s, document[1] + draw.length(80, 0.5, 500), draw.length(300, 0.5, 2_000), shared=document
            )
        else:
            yield draw.single(at_s, draw.length(500, 0.8, 8_000), draw.length(200, 0.7, 2_000), shared=(0, 0))


def _bursts(draw: _Draw, rate: float, duration_s: float) -> Iterator[Request]:
    systems = [(draw.stretch(), 1_000) for _ in range(4)]
    for at_s in draw.bursts(rate, duration_s):
        prompt = 1_000 + draw.length(800, 0.8, 8_000)
        yield draw.single(at_s, prompt, draw.length(200, 0.7, 2_000), shared=draw.rng.choice(systems))


def _tenants(draw: _Draw, rate: float, duration_s: float) -> Iterator[Request]:
    shares = [1 / place for place in range(1, 17)]
    systems = [(draw.stretch(), draw.length(2_000, 0.8, 16_000)) for _ in shares]
    calm = draw.arrivals(rate * 0.7, duration_s)
    flood = draw.bursts(rate * 0.3, duration_s)
    times = sorted([*((at_s, False) for at_s in calm), *((at_s, True) for at_s in flood)])
    for at_s, flooding in times:
        which = 0 if flooding else draw.rng.choices(range(len(shares)), shares)[0]
        system = systems[which]
        prompt = system[1] + draw.length(600, 0.8, 8_000)
        yield draw.single(at_s, prompt, draw.length(200, 0.7, 2_000), shared=system, tenant=f"tenant {which}")


KINDS: dict[str, Callable[[_Draw, float, float], Iterator[Request]]] = {
    "prefixes": _prefixes,
    "chat": _chat,
    "mix": _mix,
    "bursts": _bursts,
    "tenants": _tenants,
}
