"""How bytes get between memory and files: plain system calls, or the POSIX plugin of NIXL where that is installed.

Both take runs: adjacent slots of one file, whose blocks lie scattered in memory. `tritium kv bench` measures both.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tritium.core.errors import InvalidArgument
from tritium.kv.agent import Agent, Kind, Piece, Way, address_of

_MOST_VIEWS = 1024


@dataclass(frozen=True, slots=True)
class Run:
    """Memory that goes to, or comes from, one stretch of a file."""

    offset: int
    views: Sequence[memoryview]


class Mover(Protocol):
    """Moves whole runs, or raises OSError; safe from many threads."""

    def write(self, file: int, run: Run) -> None:
        """Write a run to an open file."""

    def read(self, file: int, run: Run) -> None:
        """Fill a run's memory from an open file."""

    def close(self) -> None:
        """Let go of what it moves with."""


class PlainMover:
    """`pwritev` and `preadv`: one call a run."""

    def write(self, file: int, run: Run) -> None:
        """Write a run to an open file."""
        _move(os.pwritev, file, run)

    def read(self, file: int, run: Run) -> None:
        """Fill a run's memory from an open file."""
        _move(os.preadv, file, run)

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


def _move(call: Callable[[int, Sequence[memoryview], int], int], file: int, run: Run) -> None:
    left = list(run.views)
    offset = run.offset
    while left:
        moved = call(file, left[:_MOST_VIEWS], offset)
        if not moved:
            raise OSError(errno.EIO, "the file ends within a block")
        offset += moved
        whole = 0
        while whole < len(left) and moved >= left[whole].nbytes:
            moved -= left[whole].nbytes
            whole += 1
        del left[:whole]
        if moved:
            left[0] = left[0][moved:]


class NixlMover:
    """Descriptor lists through NIXL's POSIX plugin; an agent a thread, for one at a time moves one list."""

    def __init__(self) -> None:
        """Raise InvalidArgument where the plugin does not load."""
        self._of_thread = threading.local()
        self._agents: list[Agent] = []
        self._agent()

    def write(self, file: int, run: Run) -> None:
        """Write a run to an open file."""
        self._transfer(Way.WRITE, file, run)

    def read(self, file: int, run: Run) -> None:
        """Fill a run's memory from an open file."""
        self._transfer(Way.READ, file, run)

    def _agent(self) -> Agent:
        agent: Agent | None = getattr(self._of_thread, "agent", None)
        if agent is None:
            agent = self._of_thread.agent = Agent("kv-files", {"POSIX": {}})
            self._agents.append(agent)
        return agent

    def close(self) -> None:
        """Let go of all agents while the process still runs: at its end NIXL may have gone before them."""
        for agent in self._agents:
            agent.close()

    def _transfer(self, way: Way, file: int, run: Run) -> None:
        agent = self._agent()
        memory, stretches = [], []
        offset = run.offset
        for view in run.views:
            memory.append(Piece(address_of(view), view.nbytes))
            stretches.append(Piece(offset, view.nbytes, file))
            offset += view.nbytes
        with (
            agent.registered(memory, Kind.MEMORY, "POSIX") as here,
            agent.registered(stretches, Kind.FILE, "POSIX") as there,
        ):
            # As patient as plain calls: the memory is the caller's, and must not be written after this.
            agent.move(way, here, there, agent.name)


def open_mover(name: str) -> Mover:
    """Return a mover by its name."""
    if name == "plain":
        return PlainMover()
    if name == "nixl":
        return NixlMover()
    raise InvalidArgument(f"no mover is called '{name}'", "plain and nixl are there")
