"""Discovery within one process: what tests of workers and fronts take, held to the same contract as those that ship."""

import asyncio
import time
from collections.abc import Callable

from tritium.cluster.card import Instance
from tritium.cluster.discovery.contract import DiscoveryStatus, View


class MemoryDiscovery:
    """A Discovery (see `discovery.contract`) that is a dict."""

    def __init__(self) -> None:
        self.status = DiscoveryStatus(connected=True)
        self._instances: dict[str, Instance] = {}
        self._followers: list[tuple[str, Callable[[View], None]]] = []

    async def announce(self, instance: Instance) -> None:
        """Tell everybody of an instance."""
        self._instances[instance.key] = instance
        self._tell(instance.namespace)

    async def withdraw(self, instance: Instance) -> None:
        """Tell of it no more."""
        if self._instances.pop(instance.key, None) is not None:
            self._tell(instance.namespace)

    def follow(self, namespace: str, on_change: Callable[[View], None]) -> None:
        """Call `on_change` with who is there, now and whenever it changes."""
        self._followers.append((namespace, on_change))
        asyncio.get_running_loop().call_soon(self._tell, namespace)

    async def close(self) -> None:
        """Follow no more."""
        self._followers.clear()

    def _tell(self, namespace: str) -> None:
        self.status.heard_s = time.monotonic()
        view = {key: one for key, one in self._instances.items() if one.namespace == namespace}
        for followed, on_change in self._followers:
            if followed == namespace:
                on_change(view)
