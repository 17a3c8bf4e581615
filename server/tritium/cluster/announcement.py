"""What discovery is told of a worker, kept true: announced however long that takes, told anew when its role changes."""

import asyncio
from contextlib import suppress

import msgspec
import structlog

from tritium.backends.engine import Role
from tritium.cluster.card import Instance
from tritium.cluster.discovery.contract import Discovery
from tritium.core.errors import Unavailable

AGAIN_S = 1.0

log = structlog.get_logger(__name__)


class Announcement:
    """One run of a worker, as everybody finds it."""

    def __init__(self, discovery: Discovery, instance: Instance) -> None:
        self.instance = instance
        self._discovery = discovery
        self._telling: asyncio.Task[None] | None = None

    async def announce(self) -> None:
        """Announce the worker, however long it takes until that can be done."""
        trouble = ""
        while True:
            instance = self.instance
            try:
                await self._discovery.announce(instance)
            except Unavailable as error:
                if error.message != trouble:
                    trouble = error.message
                    log.warning("not_announced_yet", reason=trouble)
                await asyncio.sleep(AGAIN_S)
            else:
                if instance is self.instance:
                    return

    def change(self, role: Role, number: int) -> None:
        """Tell of another role, the worker's so many'th, as soon as that can be done."""
        self.instance = msgspec.structs.replace(self.instance, role=role, role_number=number)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self.announce())

    async def withdraw(self) -> None:
        """Tell of the worker no more."""
        if self._telling is not None:
            self._telling.cancel()
            with suppress(asyncio.CancelledError):
                await self._telling
        await self._discovery.withdraw(self.instance)
