"""Who goes next when every worker is full: a waiting room with priorities, fair to tenants, and with bounds.

    ask --a worker has room, nobody waits--> go
     |--the room is full------------------> refused: RoomFull (429)
     +--else--> waits --next()--> goes
                  |--cancel--> gone
                  +--too long--> refused: Unavailable (503)

Lower priorities go first, as engines have it. Within one, tenants share by the work they bring, not by how many
requests: each has a virtual time that its own work moves on, and who is least far goes next (start-time fair queueing).
A tenant that comes back after a rest is not paid for it. Pure: the clock is the caller's.
"""

import heapq
import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from tritium.core.errors import Overloaded, Unavailable
from tritium.router.book import WorkerLoad

_TIDY = 64
"""How much of what is over may lie about before it is swept up."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait, and for how long. Zero: no bound."""

    most_waiting: int = 1024
    most_waiting_a_tenant: int = 0
    most_wait_s: float = 30.0


class Refusal(StrEnum):
    """Why a request was not served for which no worker had room."""

    NO_WORKER = "no_worker"
    TOO_MANY = "too_many"
    ROOM_FULL = "room_full"
    TENANT_FULL = "tenant_full"
    TOO_LONG = "too_long"


class RoomFull(Overloaded):
    """Too many requests wait already, of all tenants or of this one."""

    def __init__(self, message: str, why: Refusal) -> None:
        super().__init__(message, hint="retry later")
        self.why = why


@dataclass(slots=True, eq=False)
class Ticket:
    """One request that waits: `blocks` is the work it brings, `tenant` whose it is."""

    tenant: str
    blocks: int
    priority: int = 0
    until_s: float = 0.0
    gone: bool = False


TicketT = TypeVar("TicketT", bound=Ticket)


@dataclass(slots=True)
class _Queue(Generic[TicketT]):
    """The tickets of one priority."""

    heap: list[tuple[float, int, TicketT]] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    """Where each tenant's virtual time stands that waits, or went lately."""
    now: float = 0.0
    """The virtual time of who went last."""

    gone: int = 0
    """Tickets of the heap that wait no more."""

    def forget(self, ticket: TicketT) -> None:
        """Take back what a ticket cost its tenant that will not have its turn."""
        self.gone += 1
        self.times[ticket.tenant] -= max(1, ticket.blocks)
        if self.times[ticket.tenant] <= self.now:
            del self.times[ticket.tenant]
        if self.gone > max(_TIDY, len(self.heap) // 2):
            self.heap = [entry for entry in self.heap if not entry[2].gone]
            heapq.heapify(self.heap)
            self.gone = 0

    def went(self, start: float) -> None:
        """Move the virtual time on to that of a ticket that had its turn; who is not ahead of it is as if unknown."""
        self.now = start
        if len(self.times) > _TIDY + 2 * len(self.heap):
            self.times = {tenant: time for tenant, time in self.times.items() if time > start}


def has_room(load: WorkerLoad, most_prefill_blocks: int = 0) -> bool:
    """Tell whether a worker may be given one more request: by its sequences, and by what waits to be computed there.

    An idle worker takes a prompt of any length.
    """
    if load.active >= load.max_sequences:
        return False
    return not most_prefill_blocks or load.prefill_blocks < most_prefill_blocks or not load.active


def saturated(loads: Collection[WorkerLoad], most_prefill_blocks: int = 0) -> bool:
    """Tell whether no worker may be given one more request."""
    return not any(has_room(load, most_prefill_blocks) for load in loads)


class WaitingRoom(Generic[TicketT]):
    """The requests that wait for a worker of one model."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._queues: dict[int, _Queue[TicketT]] = {}
        self._waiting: dict[str, int] = {}
        self._order = itertools.count()
        self._count = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return self._count

    @property
    def tenants(self) -> Mapping[str, int]:
        """Return how many wait, by tenant."""
        return self._waiting

    def waiting_of(self, tenant: str) -> int:
        """Return how many requests of a tenant wait."""
        return self._waiting.get(tenant, 0)

    def enter(self, ticket: TicketT, now_s: float) -> None:
        """Let a request wait.

        Raises:
            RoomFull: too many wait already, of this tenant or of all.
        """
        bounds = self.bounds
        if bounds.most_waiting and self._count >= bounds.most_waiting:
            raise RoomFull(f"{self._count} requests wait for a worker, the most there may be", Refusal.ROOM_FULL)
        own = self.waiting_of(ticket.tenant)
        if bounds.most_waiting_a_tenant and own >= bounds.most_waiting_a_tenant:
            words = f"{own} requests of '{ticket.tenant}' wait for a worker, the most one may have"
            raise RoomFull(words, Refusal.TENANT_FULL)
        ticket.until_s = now_s + bounds.most_wait_s if bounds.most_wait_s else float("inf")
        queue = self._queues.setdefault(ticket.priority, _Queue[TicketT]())
        start = max(queue.now, queue.times.get(ticket.tenant, 0.0))
        queue.times[ticket.tenant] = start + max(1, ticket.blocks)
        heapq.heappush(queue.heap, (start, next(self._order), ticket))
        self._waiting[ticket.tenant] = own + 1
        self._count += 1

    def next(self) -> TicketT | None:
        """Take out whose turn it is; None where nobody waits."""
        while self._queues:
            priority = min(self._queues)
            queue = self._queues[priority]
            while queue.heap:
                start, _, ticket = heapq.heappop(queue.heap)
                if not ticket.gone:
                    queue.went(start)
                    self._leave(ticket)
                    return ticket
                queue.gone -= 1
            # Nobody of this priority waits: whoever comes next begins anew, as far as all others.
            del self._queues[priority]
        return None

    def cancel(self, ticket: TicketT) -> None:
        """Let a request wait no more. Harmless when it has gone."""
        if not ticket.gone:
            self._leave(ticket)
            self._queues[ticket.priority].forget(ticket)

    def expire(self, now_s: float) -> list[TicketT]:
        """Take out those that have waited too long; each is to be told `too_long`."""
        over = [
            ticket
            for queue in self._queues.values()
            for _, _, ticket in queue.heap
            if not ticket.gone and ticket.until_s <= now_s
        ]
        for ticket in over:
            self.cancel(ticket)
        return over

    def next_end_s(self) -> float:
        """Return when the first of those who wait will have waited too long; infinite where none will."""
        return min(
            (ticket.until_s for queue in self._queues.values() for _, _, ticket in queue.heap if not ticket.gone),
            default=float("inf"),
        )

    def too_long(self) -> Unavailable:
        """Return what a request is told that has waited too long."""
        words = f"no worker had room within {self.bounds.most_wait_s:g} s"
        return Unavailable(words, hint="retry later, or add workers")

    def _leave(self, ticket: TicketT) -> None:
        ticket.gone = True
        self._count -= 1
        left = self._waiting[ticket.tenant] - 1
        if left:
            self._waiting[ticket.tenant] = left
        else:
            del self._waiting[ticket.tenant]
