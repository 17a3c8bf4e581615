"""How bytes get between memory and files: plain system calls, or the POSIX plugin of NIXL where that is installed.

Both take runs: adjacent slots of one file, whose blocks lie scattered in memory. `tritium kv bench` measures both.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from tritium.core.errors import InvalidArgument

_MOST_VIEWS = 1024
_NIXL_TIMEOUT_S = 30.0


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


class PlainMover:
    """`pwritev` and `preadv`: one call a run."""

    def write(self, file: int, run: Run) -> None:
        """Write a run to an open file."""
        _move(os.pwritev, file, run)

    def read(self, file: int, run: Run) -> None:
        """Fill a run's memory from an open file."""
        _move(os.preadv, file, run)


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
    """Descriptor lists through NIXL; an agent a thread, without its progress thread, which would spin when idle."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def write(self, file: int, run: Run) -> None:
        """Write a run to an open file."""
        self._transfer("WRITE", file, run)

    def read(self, file: int, run: Run) -> None:
        """Fill a run's memory from an open file."""
        self._transfer("READ", file, run)

    def _agent(self) -> Any:
        agent = getattr(self._of_thread, "agent", None)
        if agent is None:
            os.environ.setdefault("NIXL_LOG_LEVEL", "WARN")  # its INFO says that it began
            nixl = import_module("nixl._api")
            config = nixl.nixl_agent_config(enable_prog_thread=False, backends=[])
            agent = nixl.nixl_agent(f"kv-{threading.get_ident()}", config)
            agent.create_backend("POSIX", {})
            self._of_thread.agent = agent
        return agent

    def _transfer(self, operation: str, file: int, run: Run) -> None:
        agent = self._agent()
        memory, stretches = [], []
        offset = run.offset
        for view in run.views:
            memory.append((np.frombuffer(view, np.uint8).ctypes.data, view.nbytes, 0, ""))
            stretches.append((offset, view.nbytes, file, ""))
            offset += view.nbytes
        registered = []
        try:
            for blocks, kind in ((memory, "DRAM"), (stretches, "FILE")):
                registered.append(agent.register_memory(blocks, mem_type=kind, backends=["POSIX"]))
            handle = agent.initialize_xfer(operation, *(one.trim() for one in registered), agent.name)
            try:
                state = agent.transfer(handle)
                until = time.monotonic() + _NIXL_TIMEOUT_S
                while state == "PROC" and time.monotonic() < until:
                    time.sleep(0)
                    state = agent.check_xfer_state(handle)
            finally:
                agent.release_xfer_handle(handle)
        except RuntimeError as fault:  # what nixl's errors derive from
            raise OSError(errno.EIO, f"nixl: {fault}") from fault
        finally:
            for one in registered:
                agent.deregister_memory(one)
        if state != "DONE":
            raise OSError(errno.EIO, f"nixl: the transfer ended as {state}")


def open_mover(name: str) -> Mover:
    """Return a mover by its name."""
    if name == "plain":
        return PlainMover()
    if name == "nixl":
        if find_spec("nixl") is None:
            raise InvalidArgument("mover nixl needs the package nixl", "pip install --no-deps nixl nixl-cu12")
        return NixlMover()
    raise InvalidArgument(f"no mover is called '{name}'", "plain and nixl are there")
