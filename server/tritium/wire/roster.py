"""What the connections of one listener share: who is connected, which handlers run, receive memory, and the clock.

A connection enters itself when it is accepted and strikes itself when it is lost. While anybody is connected, each is
asked every so often whether its client has taken too long (`expire`); an idle listener does nothing at all.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from tritium.wire.prompt import Prompt, Running

SWEEP_S = 1.0
RECEIVE_BYTES = 64 << 10
LINGER_S = 1.0
"""How long the clients of a port that another process goes on serving have to ask once more, and be sent there."""


def was_cancelled(fault: BaseException) -> bool:
    """Tell whether the running task was cancelled, and not merely something that its handler waited for."""
    task = asyncio.current_task()
    return isinstance(fault, asyncio.CancelledError) and task is not None and task.cancelling() > 0


class Connection(Protocol):
    """What the roster asks of a connection."""

    def wind_down(self) -> None:
        """End as soon as nothing is under way."""
        ...

    def abort(self) -> None:
        """End now."""
        ...

    def expire(self, now: float) -> None:
        """End if the client takes too long over what it is due to do."""
        ...


class Roster:
    """The connections and running handlers of one listener.

    All connections read into `scratch`: the loop fills it and the parser empties it before anybody else has a turn.
    `running` holds the only strong reference to a handler under way, keyed by what it answers. A roster that `lingers`
    closes no idle connection in the second after it began to close: a request may be on its way, and is answered with
    the word to connect anew.
    """

    def __init__(
        self, *, secure: bool, sweep_s: float = SWEEP_S, scratch_bytes: int = RECEIVE_BYTES, lingers: bool = False
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.secure = secure
        self.closing = False
        self.scratch = memoryview(bytearray(scratch_bytes))
        self.running: Running = {}
        self._connections: set[Connection] = set()
        self._sweep_s = sweep_s
        self._lingers = lingers
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        """Count the connections."""
        return len(self._connections)

    def enter(self, connection: Connection) -> None:
        """Add an accepted connection."""
        self._connections.add(connection)
        self._empty.clear()
        if self._timer is None:
            self._timer = self.loop.call_later(self._sweep_s, self._sweep)

    def strike(self, connection: Connection) -> None:
        """Remove a lost connection."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _sweep(self) -> None:
        self._timer = None
        now = self.loop.time()
        for connection in tuple(self._connections):
            connection.expire(now)
        if self._connections:
            self._timer = self.loop.call_later(self._sweep_s, self._sweep)

    def start(self, key: object, handling: Coroutine[Any, Any, None]) -> None:
        """Run a handler, which takes itself out of `running` at its end, in a task."""
        self.running[key] = self.loop.create_task(handling)

    def begin(self, key: object, handling: Coroutine[Any, Any, None]) -> None:
        """Run a handler that needs no task, at once."""
        prompt = self.running[key] = Prompt(handling, self.running, key)
        prompt.go_on()

    def _tasks(self) -> Sequence[asyncio.Task[None]]:
        return [run.task() if isinstance(run, Prompt) else run for run in tuple(self.running.values())]

    async def close(self, grace_s: float) -> None:
        """Let calls in flight finish for up to `grace_s`, then drop every connection and cancel every handler."""
        self.closing = True
        if self._lingers:
            try:
                async with asyncio.timeout(min(LINGER_S, grace_s)):
                    await self._empty.wait()
            except TimeoutError:
                pass
        for connection in tuple(self._connections):
            connection.wind_down()
        try:
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
                while self.running:
                    await asyncio.wait(self._tasks())
        except TimeoutError:
            pass
        for connection in tuple(self._connections):
            connection.abort()
        orphans = self._tasks()
        for task in orphans:
            task.cancel()
        if orphans:
            await asyncio.wait(orphans)
        await self._empty.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
