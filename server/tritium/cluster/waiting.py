"""Requests that found every worker full: they wait in front of the engines, where their order can still be chosen.

    hold --room for one more--> go          the room is `router.admission`; what opens it is told by `opened`
      |--too many wait------> RoomFull raised
      `--too long-----------> refuse(Unavailable)

While nobody waits this is one comparison a request: `count` is 0.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tritium.cluster.fleet import OwnSample
from tritium.cluster.timings import histogram_samples
from tritium.core.errors import InferenceError
from tritium.core.latencies import Histogram
from tritium.router.admission import Bounds, Refusal, RoomFull, Ticket, WaitingRoom
from tritium.router.router import Router

MOST_TENANTS = 32
"""Tenants that metrics name; further ones are told together, so that clients cannot make up labels without end."""

OTHERS = "other"

MOST_RETRY_S = 60

_KEEP = 0.9
"""How much of the learnt time between two turns stays when the next one comes."""

_WAITED_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True, eq=False)
class Waiter(Ticket):
    """A request in the waiting room: `go` is called when its turn has come, or `refuse` when that took too long."""

    since_s: float = 0.0
    go: Callable[[], None] = lambda: None
    refuse: Callable[[InferenceError], None] = lambda _: None
    books_later: bool = False
    """What `go` sends is booked when the event loop comes to it; nobody else may go before."""


class Waiting:
    """The waiting room of one model.

    Contract: `opened` is called whenever a worker may have got room.
    """

    def __init__(self, bounds: Bounds, router: Callable[[], Router]) -> None:
        self.count = 0
        self.waited = Histogram(_WAITED_S)
        self.refused: Counter[str] = Counter()
        self._router = router
        self._room: WaitingRoom[Waiter] = WaitingRoom(bounds)
        self._labels: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._opening = False
        self._turn_s = 0.0
        self._turned_s = 0.0

    def must_wait(self, router: Router) -> bool:
        """Tell whether a request that comes now has to wait: others do already, or every worker is full."""
        return self.count > 0 or router.full

    def hold(self, waiter: Waiter) -> None:
        """Let a request wait.

        Raises:
            RoomFull: too many wait already; `retry_s` is when that should have changed.
        """
        now_s = waiter.since_s = time.monotonic()
        try:
            self._room.enter(waiter, now_s)
        except RoomFull as error:
            self.refused[error.why] += 1
            error.retry_s = self._retry_s()
            raise
        if not self.count:
            # Until now there was room: what lies between the last turn and the next is no measure.
            self._turned_s = 0.0
        self.count = len(self._room)
        if waiter.tenant and len(self._labels) < MOST_TENANTS:
            self._labels.add(waiter.tenant)
        if self._timer is None and math.isfinite(waiter.until_s):
            self._timer = asyncio.get_running_loop().call_later(waiter.until_s - now_s, self._expire)

    async def turn(self, tenant: str, blocks: int, priority: int) -> None:
        """Wait for a turn; the caller books what it sends before it awaits anything.

        Raises:
            RoomFull: too many wait already.
            Unavailable: it took too long.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def go() -> None:
            if not turn.done():
                turn.set_result(None)

        def refuse(error: InferenceError) -> None:
            if not turn.done():
                turn.set_exception(error)

        waiter = Waiter(tenant, blocks, priority, go=go, refuse=refuse, books_later=True)
        self.hold(waiter)
        try:
            await turn
        except asyncio.CancelledError:
            self.leave(waiter)
            self.opened()
            raise

    def leave(self, waiter: Waiter) -> None:
        """Let a request wait no more. Harmless when it does not."""
        self._room.cancel(waiter)
        self._counted()

    def opened(self) -> None:
        """Let go on, soon, whoever there is room for."""
        if self.count and not self._opening:
            self._opening = True
            asyncio.get_running_loop().call_soon(self._let_go)

    def tenants(self) -> Mapping[str, int]:
        """Return how many wait by tenant, under no more names than metrics may have."""
        found = dict.fromkeys(self._labels, 0)
        for tenant, count in self._room.tenants.items():
            name = tenant if tenant in self._labels or not tenant else OTHERS
            found[name] = found.get(name, 0) + count
        return found

    def samples(self, model: str) -> Iterator[OwnSample]:
        """Return how long requests waited as Prometheus has histograms."""
        return histogram_samples(
            "tritium_waited_seconds", "Time requests waited for a worker with room", {"model": model}, self.waited
        )

    def _let_go(self) -> None:
        self._opening = False
        while self.count and not self._router().full:
            waiter = self._room.next()
            assert waiter is not None
            self._counted()
            now_s = time.monotonic()
            if self._turned_s:
                took_s = now_s - self._turned_s
                self._turn_s = _KEEP * self._turn_s + (1 - _KEEP) * took_s if self._turn_s else took_s
            self._turned_s = now_s
            self.waited.observe(now_s - waiter.since_s)
            waiter.go()
            if waiter.books_later:
                self.opened()
                return

    def _expire(self) -> None:
        self._timer = None
        now_s = time.monotonic()
        over = self._room.expire(now_s)
        self._counted()
        if (next_s := self._room.next_end_s()) < math.inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, next_s - now_s), self._expire)
        for waiter in over:
            self.refused[Refusal.TOO_LONG] += 1
            self.waited.observe(now_s - waiter.since_s)
            error = self._room.too_long()
            error.retry_s = self._retry_s()
            waiter.refuse(error)

    def _counted(self) -> None:
        self.count = len(self._room)
        if not self.count and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _retry_s(self) -> int:
        """Return when those who wait now should have had their turn, going by the pace of turns lately."""
        return max(1, min(MOST_RETRY_S, math.ceil(self.count * self._turn_s)))
