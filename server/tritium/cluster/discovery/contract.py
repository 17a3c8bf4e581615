"""What every kind of discovery is: workers announce themselves, fronts follow who is there.

    announce(instance) ... kept true until withdraw(instance), or until the worker is dead for `DEAD_S`
    follow(namespace)  -> the whole view, at once and after every change

A view outlives an outage of what carries it: who cannot ask knows what it knew.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from tritium.cluster.card import Instance

DEAD_S = 10.0
"""How long a worker that was killed is still announced."""

View = Mapping[str, Instance]
"""Instances by key."""


@dataclass(slots=True)
class DiscoveryStatus:
    """How it stands with what carries the announcements. `heard_s` is when it last answered, on the monotonic clock."""

    heard_s: float = 0.0
    connected: bool = False
    reconnects: int = 0
    unreadable: int = 0
    """Announcements that could not be read."""


class Discovery(Protocol):
    """One way to announce and to follow.

    Contract: `announce` raises only when nothing could be announced at all; what fails later is tried again until
    `withdraw` or `close`. `on_change` is called on the event loop, with a view that does not change any more.
    """

    status: DiscoveryStatus

    async def announce(self, instance: Instance) -> None:
        """Tell everybody of an instance, and go on doing so; told anew, it stands in the place of what was told before.

        Raises:
            Unavailable: what carries announcements cannot be reached; or it is not installed.
        """
        ...

    async def withdraw(self, instance: Instance) -> None:
        """Tell of it no more. Harmless when repeated."""
        ...

    def follow(self, namespace: str, on_change: Callable[[View], None]) -> None:
        """Call `on_change` with who is there, when that is first known and whenever it changes, until `close`."""
        ...

    async def close(self) -> None:
        """Withdraw what was announced here, and follow no more."""
        ...


_DECODER = msgspec.json.Decoder(Instance)


def write_instance(instance: Instance) -> bytes:
    """Return an instance as it is carried: JSON."""
    return msgspec.json.encode(instance)


def read_instance(data: bytes) -> Instance | None:
    """Read an instance; nothing where it is none that this release understands."""
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
