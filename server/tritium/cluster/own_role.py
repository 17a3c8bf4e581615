"""The role of a worker that fronts have found, and how one of them changes it: the worker says who may, and tells all.

    FREE --HoldRole--> HELD by that front --TakeRole--> in another role; every front and discovery are told
      ^                  |        `--TakeRole, and the engine has to start anew for it--> on_restart
      `--LetRole, gone---'

Who changes the roles of a fleet holds all of its workers meanwhile, so that two fronts do so one after the other.
"""

import time
from collections.abc import Callable, Collection

import structlog

from tritium.backends.engine import Role

LAPSE_S = 60.0
"""A front that holds a role and has said nothing for so long holds it no more against others."""

log = structlog.get_logger(__name__)


class Holder:
    """A front that may hold the role; `heard_s` is when it last said something about it, on the monotonic clock."""

    __slots__ = ("heard_s", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard_s = 0.0


class OwnRole:
    """A worker's role, which of them its engine can take as it runs, and who is changing it.

    `on_change` is told of a role that was taken. `on_restart` of one that takes a new start, where that can be had.
    What is refused is told in words; "" is success.
    """

    def __init__(self, role: Role, able: Collection[Role] = ()) -> None:
        self.role = role
        self.number = 0
        """How often it has changed in this run."""
        self.leaving = False
        """The worker drains: its role matters no more."""
        self.on_change: list[Callable[[], None]] = []
        self.on_restart: Callable[[Role], None] | None = None
        self._able = able
        self._holder: Holder | None = None

    def hold(self, front: Holder) -> str:
        """Let a front alone change the role, until it lets go."""
        now_s = time.monotonic()
        holder = self._holder
        if holder not in (None, front) and now_s - holder.heard_s < LAPSE_S:
            return f"front {holder.name} is changing roles"
        front.heard_s = now_s
        self._holder = front
        return ""

    def let(self, front: Holder) -> None:
        """Let others change the role again. Harmless where it was not held."""
        if self._holder is front:
            self._holder = None

    def take(self, front: Holder, role: Role) -> str:
        """Take a role; one that it has already is no change."""
        if self._holder is not front:
            return f"it is {self.role}, and another front has begun to change roles meanwhile"
        front.heard_s = time.monotonic()
        if self.leaving:
            return "it is draining"
        if role is self.role:
            return ""
        if role in self._able:
            log.info("role_changed", before=self.role, after=role, front=front.name)
            self.role = role
            self.number += 1
            for told in self.on_change:
                told()
            return ""
        if self.on_restart is None:
            return "its engine takes another role only when it is started in it"
        self.leaving = True
        log.info("role_changes_by_restart", before=self.role, after=role, front=front.name)
        self.on_restart(role)
        return ""
