"""Holds writers back while a peer takes no more. Closed by `pause_writing`, opened by `resume_writing`."""

import asyncio


class Gate:
    """A door that many may wait at; a waiter that is cancelled leaves the others alone."""

    __slots__ = ("_waiters", "shut")

    def __init__(self) -> None:
        self.shut = False
        self._waiters: dict[asyncio.Future[None], None] = {}

    async def passed(self) -> None:
        """Wait until the gate stands open."""
        while self.shut:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters[waiter] = None
            try:
                await waiter
            finally:
                self._waiters.pop(waiter, None)

    def close(self) -> None:
        """Hold whoever comes from now on."""
        self.shut = True

    def open(self) -> None:
        """Let everybody through."""
        self.shut = False
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
