"""The rate limiter: which instances may run now, over all the models of a server.

    AVAILABLE --stage--> STAGED --head of the line, resources free--> HELD --release--> AVAILABLE

Instances that have something to run stand in one line, those first that have run least (their executions times
their priority). The head waits until its resources are free, and everybody else waits behind it.
Source: Triton core, rate_limiter.cc.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tritium.core.errors import InvalidArgument

GLOBAL: Final = -2
"""The device of a resource that all devices share."""
EVERY_DEVICE: Final = -1
"""The device of a limit that holds for each device by itself."""

LOADED_AND_WARM: Final = 2
"""What an instance begins with: in Triton its loading and its warm-up pass the limiter and count as executions."""

ResourceKey = tuple[int, str]
"""A device and the name of a resource."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one instance needs to run: how many of each resource; a higher `priority` number lets others go first."""

    resources: Mapping[ResourceKey, int] = field(default_factory=dict)
    priority: int = 1


def _keep_silent(limits: Mapping[ResourceKey, int]) -> None:
    """Hear of limits that nobody wants to know."""


def _never() -> bool:
    return False


class Ticket:
    """One instance's place in the limiter.

    `wanted` is asked when it is at the head of the line, for its work may be gone by then; `start` is called when
    it is given its resources, which it holds until `release`.
    """

    __slots__ = ("_limiter", "claim", "executions", "held", "line_number", "staged", "start", "wanted")

    def __init__(self, limiter: "RateLimiter", claim: Claim) -> None:
        self._limiter = limiter
        self.claim = claim
        self.executions = LOADED_AND_WARM
        self.staged = False
        self.held = False
        self.line_number = 0
        self.wanted: Callable[[], bool] = _never
        self.start: Callable[[], None] = lambda: None

    @property
    def score(self) -> int:
        """Return its order in the line: the lowest comes first."""
        return self.executions * max(1, self.claim.priority)

    def stage(self) -> bool:
        """Stand in line; tell whether the instance may run right away."""
        self._limiter.stage(self)
        return self.held

    def release(self, *, ran: bool) -> None:
        """Give the resources back, if any are held; `ran` counts an execution."""
        self._limiter.release(self, ran=ran)

    def withdraw(self) -> None:
        """Leave for good: the instance is no more."""
        self._limiter.withdraw(self)

    def __lt__(self, other: "Ticket") -> bool:
        return (self.score, self.line_number) < (other.score, other.line_number)


class RateLimiter:
    """The resources of a server and the line for them.

    `limits` are how many there are of each; where none are given, as many as the most demanding instance needs.
    `told` hears of them when instances have come or gone.
    """

    def __init__(
        self,
        limits: Mapping[ResourceKey, int] | None = None,
        told: Callable[[Mapping[ResourceKey, int]], None] = _keep_silent,
    ) -> None:
        self._given = dict(limits or {})
        self._told = told
        self._tickets: set[Ticket] = set()
        self._limits: dict[ResourceKey, int] = {}
        self._in_use: dict[ResourceKey, int] = {}
        self._line: list[Ticket] = []
        self._numbers = 0
        self._moving = False

    def register(self, claim: Claim) -> Ticket:
        """Take an instance in.

        Raises:
            InvalidArgument: it could never run, or a resource is global for one instance and not for another.
        """
        ticket = Ticket(self, claim)
        limits = self._limits_for([*self._tickets, ticket])
        self._tickets.add(ticket)
        self._limits = limits
        self._told(limits)
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Take an instance out, and what it holds back."""
        self._give_back(ticket)
        if ticket in self._tickets:
            self._tickets.discard(ticket)
            self._limits = self._limits_for(self._tickets)
            self._told(self._limits)
        if ticket.staged:
            ticket.staged = False
            self._line.remove(ticket)
            heapq.heapify(self._line)
        self._move()

    def stage(self, ticket: Ticket) -> None:
        """Let an instance stand in line, and see who may run."""
        if not ticket.staged and not ticket.held:
            self._enter(ticket)
            self._move()

    def release(self, ticket: Ticket, *, ran: bool) -> None:
        """Take resources back, and see who may run now: whoever has more to run stands in line again."""
        if not ticket.held:
            return
        self._give_back(ticket)
        ticket.executions += ran
        if ran and ticket.wanted():
            # Before the line moves, or two instances would take turns whatever their priorities.
            self._enter(ticket)
        self._move()

    def _enter(self, ticket: Ticket) -> None:
        ticket.staged = True
        self._numbers += 1
        ticket.line_number = self._numbers
        heapq.heappush(self._line, ticket)

    def _give_back(self, ticket: Ticket) -> None:
        if ticket.held:
            ticket.held = False
            for key, count in ticket.claim.resources.items():
                self._in_use[key] -= count

    def _move(self) -> None:
        """Give resources to the head of the line as long as there are enough."""
        if self._moving:  # an instance that starts may be done before `start` returns
            return
        self._moving = True
        try:
            while self._line:
                ticket = self._line[0]
                wanted = ticket.wanted()
                if wanted and not self._enough(ticket.claim):
                    return
                heapq.heappop(self._line)
                ticket.staged = False
                if wanted:
                    ticket.held = True
                    for key, count in ticket.claim.resources.items():
                        self._in_use[key] = self._in_use.get(key, 0) + count
                    ticket.start()
        finally:
            self._moving = False

    def _enough(self, claim: Claim) -> bool:
        return all(
            self._in_use.get(key, 0) + count <= self._limits.get(key, 0) for key, count in claim.resources.items()
        )

    def _limits_for(self, tickets: "set[Ticket] | Sequence[Ticket]") -> dict[ResourceKey, int]:
        """Return how many of each resource there are.

        Raises:
            InvalidArgument: an instance among the tickets could never run.
        """
        needed: dict[ResourceKey, int] = {}
        for ticket in tickets:
            for key, count in ticket.claim.resources.items():
                needed[key] = max(count, needed.get(key, 0))
        limits = needed
        if self._given:
            limits = {key: self._available(key) for key in needed}
            for key in sorted(needed):
                if limits[key] < needed[key]:
                    raise InvalidArgument(
                        f'Resource count for "{key[1]}" is limited to {limits[key]} which will prevent scheduling of '
                        f"one or more model instances, the minimum required count is {needed[key]}",
                        hint=f"raise it with --rate-limit-resource={key[1]}:{needed[key]}",
                    )
        shared = {name for device, name in needed if device == GLOBAL}
        for device, name in sorted(needed):
            if device != GLOBAL and name in shared:
                raise InvalidArgument(
                    f'Resource "{name}" is present as both global and device-specific resource in the model '
                    "configuration.",
                    hint="give it `global: true` everywhere, or nowhere",
                )
        return limits

    def _available(self, key: ResourceKey) -> int:
        device, name = key
        counts = [
            count
            for (given_for, given), count in self._given.items()
            if given == name and (device == GLOBAL or given_for in (device, EVERY_DEVICE))
        ]
        return max(counts, default=0)
