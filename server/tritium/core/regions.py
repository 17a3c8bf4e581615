"""Memory that clients share with the server: what the protocols ask of it.

`memory.registry` is the one of a server that lets clients register regions; `NoRegions` is every other server's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tritium.compat.v2 import regions


@dataclass(frozen=True, slots=True)
class RegionStatus:
    """A registered region: `byte_size` bytes from `offset` of the object with the POSIX key `key`."""

    name: str
    key: str
    offset: int
    byte_size: int


class Regions(Protocol):
    """The regions of a server. Every refusal is a `compat.v2.refusal.Refusal` in Triton's words.

    Contract: a region that is unregistered while a request uses it stays until the last use of its memory is over.
    """

    def check_open(self) -> None:
        """Refuse clients that would register or unregister memory, where the server does not let them."""
        ...

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Map a part of a POSIX shared memory object under a name."""
        ...

    def register_cuda(self, name: str) -> None:
        """Refuse a region of CUDA memory, which no process without a GPU can map."""
        ...

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all of them; a name that is not known is no error."""
        ...

    def unregister_cuda(self, name: str = "") -> None:
        """Forget CUDA regions, of which there are none."""
        ...

    def status(self, name: str = "") -> Sequence[RegionStatus]:
        """List every region by name, or the one that is asked for."""
        ...

    def cuda_status(self, name: str = "") -> Sequence[RegionStatus]:
        """List the CUDA regions: none."""
        ...

    def view(self, name: str, offset: int, byte_size: int) -> memoryview:
        """Return `byte_size` bytes of a region from `offset` on, writable and not copied."""
        ...


class NoRegions:
    """The regions of a server whose clients may not register any."""

    def check_open(self) -> None:
        """Refuse."""
        raise regions.disabled()

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:  # noqa: ARG002  # as in Regions
        """Refuse."""
        raise regions.disabled()

    def register_cuda(self, name: str) -> None:  # noqa: ARG002  # as in Regions
        """Refuse."""
        raise regions.disabled()

    def unregister(self, name: str = "") -> None:  # noqa: ARG002  # as in Regions
        """Refuse."""
        raise regions.disabled()

    def unregister_cuda(self, name: str = "") -> None:  # noqa: ARG002  # as in Regions
        """Refuse."""
        raise regions.disabled()

    def status(self, name: str = "") -> Sequence[RegionStatus]:
        """List nothing."""
        if name:
            raise regions.unknown_status("system", name)
        return ()

    def cuda_status(self, name: str = "") -> Sequence[RegionStatus]:
        """List nothing."""
        if name:
            raise regions.unknown_status("cuda", name)
        return ()

    def view(self, name: str, offset: int, byte_size: int) -> memoryview:  # noqa: ARG002  # as in Regions
        """Refuse."""
        raise regions.unknown(name)
