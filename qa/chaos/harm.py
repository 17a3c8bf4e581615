"""What is done to a fleet: one kind of harm a class, each counted."""

import asyncio
import os
import random
import signal
from contextlib import suppress
from typing import ClassVar

from qa.chaos.server import FleetServer


class Harm:
    """Something that goes wrong."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.done = 0

    async def do(self, server: FleetServer, chance: random.Random) -> None:
        """Let it go wrong now, if there is whom to do it to."""
        self.done += await self._do(server, chance)

    async def _do(self, server: FleetServer, chance: random.Random) -> bool:
        raise NotImplementedError


class _Signal(Harm):
    """A signal to one worker, whichever."""

    signal: ClassVar[signal.Signals]

    async def _do(self, server: FleetServer, chance: random.Random) -> bool:
        workers = sorted(server.workers().items())
        if not workers:
            return False
        with suppress(ProcessLookupError):
            os.kill(chance.choice(workers)[1], self.signal)
        return True


class KilledWorker(_Signal):
    """kill -9 of a worker."""

    name = "worker"
    signal = signal.SIGKILL


class StoppedWorker(_Signal):
    """A worker that is there and does nothing any more."""

    name = "stopped"
    signal = signal.SIGSTOP


class AllWorkers(Harm):
    """kill -9 of every worker at once."""

    name = "all"

    async def _do(self, server: FleetServer, chance: random.Random) -> bool:
        for pid in server.workers().values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return True


class KilledFront(Harm):
    """kill -9 of the server, which is started again; its workers go with it."""

    name = "front"

    async def _do(self, server: FleetServer, chance: random.Random) -> bool:
        # One in four: a server that is always starting serves nobody.
        if chance.random() > 0.25:
            return False
        await asyncio.to_thread(server.kill_front)
        return True


HARMS: dict[str, type[Harm]] = {kind.name: kind for kind in (KilledWorker, StoppedWorker, AllWorkers, KilledFront)}
