"""Discovery by etcd: a key for each instance under a lease that its worker renews, a watch in each front.

    PREFIX/workers/NAMESPACE/WORKER/RUN = the instance, as JSON

    announce: lease -> put -> renew ... -> lease gone? lease -> put           withdraw: revoke
    follow:   list -> watch from there on -> lost, or compacted? list again

While etcd is away a front knows what it knew, and a worker goes on working; both come back by themselves.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog

from tritium.cluster.card import Instance
from tritium.cluster.discovery.contract import DEAD_S, DiscoveryStatus, View, read_instance, write_instance
from tritium.cluster.discovery.etcd_client import EtcdClient, EtcdError, EtcdPlace

RENEW_S = DEAD_S / 3
FIRST_AGAIN_S = 0.2
LONGEST_AGAIN_S = 2.0
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Announced:
    instance: Instance
    lease: int


class EtcdDiscovery:
    """A Discovery (see `discovery.contract`) over etcd."""

    def __init__(self, place: EtcdPlace) -> None:
        """Make one; nothing is connected before it is used.

        Raises:
            InvalidArgument: aetcd is not installed.
        """
        self.status = DiscoveryStatus()
        self._place = place
        self._client = EtcdClient(place)
        self._announced: dict[str, _Announced] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._following = False

    async def announce(self, instance: Instance) -> None:
        """Put the instance under a lease, and renew that from then on; told anew, it keeps its lease.

        Raises:
            EtcdError: etcd does not answer.
        """
        if (before := self._announced.get(instance.key)) is not None:
            # Should the lease have ended meanwhile, its renewal puts what is to be told now.
            before.instance = instance
            await self._client.put(self._key(instance), write_instance(instance), before.lease)
            return
        announced = _Announced(instance, await self._put(instance))
        self._announced[instance.key] = announced
        self._spawn(self._renew(announced))

    async def withdraw(self, instance: Instance) -> None:
        """Revoke the lease; where etcd is away, it ends by itself."""
        announced = self._announced.pop(instance.key, None)
        if announced is not None:
            with suppress(EtcdError):
                await self._client.revoke(announced.lease)

    def follow(self, namespace: str, on_change: Callable[[View], None]) -> None:
        """List, and watch from there on."""
        if not self._following:
            self._following = True
            self._spawn(self._ask())
        self._spawn(self._follow(f"{self._place.prefix}/workers/{quote(namespace, safe='')}/", on_change))

    async def close(self) -> None:
        """Withdraw what was announced here, and follow no more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for announced in list(self._announced.values()):
            await self.withdraw(announced.instance)
        await self._client.close()

    def _key(self, instance: Instance) -> str:
        parts = (instance.namespace, instance.worker, instance.run)
        return "/".join([self._place.prefix, "workers", *(quote(part, safe="") for part in parts)])

    async def _put(self, instance: Instance) -> int:
        lease = await self._client.grant(round(DEAD_S))
        await self._client.put(self._key(instance), write_instance(instance), lease)
        self._heard()
        return lease

    async def _renew(self, announced: _Announced) -> None:
        """Keep the lease alive; where it has ended, announce anew."""
        pause_s = RENEW_S
        again_s = FIRST_AGAIN_S
        while announced.instance.key in self._announced:
            await asyncio.sleep(pause_s)
            try:
                if not await self._client.keep_alive(announced.lease):
                    log.warning("announcement_expired", worker=announced.instance.worker)
                    announced.lease = await self._put(announced.instance)
                self._heard()
                pause_s, again_s = RENEW_S, FIRST_AGAIN_S
            except EtcdError as error:
                self._lost(error)
                pause_s = again_s
                again_s = min(again_s * 2, LONGEST_AGAIN_S)

    async def _follow(self, prefix: str, on_change: Callable[[View], None]) -> None:
        again_s = FIRST_AGAIN_S
        view: dict[str, Instance] | None = None
        while True:
            try:
                listing = await self._client.listing(prefix)
                self._heard()
                again_s = FIRST_AGAIN_S
                found = self._read(listing.values)
                if found != view:
                    view = found
                    on_change(_by_instance(view))
                await self._watch(prefix, listing.revision + 1, view, on_change)
            except EtcdError as error:
                self._lost(error)
                await asyncio.sleep(again_s)
                again_s = min(again_s * 2, LONGEST_AGAIN_S)

    async def _watch(
        self, prefix: str, revision: int, view: dict[str, Instance], on_change: Callable[[View], None]
    ) -> None:
        """Apply what happens to the view, until the connection is lost."""
        async with aclosing(self._client.watch(prefix, revision)) as changes:
            async for batch in changes:
                self._heard()
                if batch:
                    for change in batch:
                        view.pop(change.key, None)
                        if change.value is not None:
                            view |= self._read({change.key: change.value})
                    on_change(_by_instance(view))

    async def _ask(self) -> None:
        """See now and then whether etcd answers: a watch on which nothing happens does not tell."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._client.ask()
                self._heard()
            except EtcdError as error:
                self._lost(error)

    def _read(self, values: dict[str, bytes]) -> dict[str, Instance]:
        found = {}
        for key, value in values.items():
            instance = read_instance(value)
            if instance is None or self._key(instance) != key:
                # Who writes under another's name could take it out of sight.
                self.status.unreadable += 1
                log.warning("announcement_unreadable", key=key)
            else:
                found[key] = instance
        return found

    def _heard(self) -> None:
        if not self.status.connected:
            if self.status.heard_s:
                self.status.reconnects += 1
                log.info("discovery_back", away_s=round(time.monotonic() - self.status.heard_s, 1))
            self.status.connected = True
        self.status.heard_s = time.monotonic()

    def _lost(self, error: EtcdError) -> None:
        if self.status.connected or not self.status.heard_s:
            log.warning("discovery_lost", error=error.message)
        self.status.connected = False

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _by_instance(view: dict[str, Instance]) -> View:
    return {instance.key: instance for instance in view.values()}
