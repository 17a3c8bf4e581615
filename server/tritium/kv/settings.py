"""What a block store is opened with, and how that is written in one line: `host=4GiB,disk=100GiB:/var/kv,...`."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tritium.core.errors import InvalidArgument

FEWEST_SECRET_BYTES = 16
MOST_PORT = 65535
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12} | {
    f"{letter}i": 1 << (10 * power) for power, letter in enumerate("kmgt", 1)
}


class Writing(StrEnum):
    """When a block goes to the next lower tier: as soon as it has been used often enough, or when it must leave."""

    THROUGH = "through"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The tier in host memory."""

    size_bytes: int
    pinned: bool = True
    """Lock the memory for the GPU's copies where CUDA is there."""


@dataclass(frozen=True, slots=True)
class DiskSettings:
    """The tier in files, spread over one or more directories; each belongs to one store at a time."""

    size_bytes: int
    directories: tuple[Path, ...]
    direct: bool | None = None
    """Go past the page cache (O_DIRECT): None where the file system takes it and blocks are not small."""
    min_uses: int = 2
    """How often a block must have been saved or loaded before it is worth a write."""
    mover: str = "plain"
    """What moves bytes between memory and files: plain system calls, or nixl's POSIX plugin."""


@dataclass(frozen=True, slots=True)
class ObjectSettings:
    """The tier in an object store."""

    size_bytes: int
    url: str
    """`s3://bucket/prefix`; whatever obstore takes."""
    min_uses: int = 3
    timeout_s: float = 5.0
    """How long one request to the store may take; a store that fails rests, for longer each time."""
    concurrency: int = 16
    endpoint: str = ""
    """An S3-compatible store's own address; empty: AWS's."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What obstore needs beside that: keys, region."""
    mover: str = "obstore"
    """What moves blocks: obstore, or nixl's OBJ plugin (of S3 only; obstore lists, deletes, and gets what that fails
    to)."""
    list_every_s: float = 600.0
    """How often to look for what others put there."""


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """Other workers' stores, whose host tiers are read as one more tier, and where ours is read."""

    at: tuple[str, ...] = ()
    """Where others are: a folder in which the stores of a machine leave their addresses, or `HOST:PORT`, for every
    address that the name resolves to."""
    listen: str = "127.0.0.1:0"
    """Where others read our host tier. An address that other machines can reach needs a secret."""
    secret: bytes | None = field(default=None, repr=False)
    """What all stores of a cluster share; whoever does not have it is refused."""
    path: str = ""
    """How blocks come: `nixl`, `plain` (over the connection), or empty for the one that is faster, by peer."""
    prefix: bytes = b""
    """What the keys of interest begin with (`Namespace.prefix`); of others nothing is told."""
    timeout_s: float = 2.0
    """How long a peer may take to answer, beside the time that the bytes need."""

    def __post_init__(self) -> None:
        """Refuse what could not be safe or found."""
        if self.path not in ("", "nixl", "plain"):
            raise InvalidArgument(f"blocks of peers do not come by '{self.path}'", "nixl and plain are there")
        if self.secret is not None and len(self.secret) < FEWEST_SECRET_BYTES:
            raise InvalidArgument(f"a secret of peers needs {FEWEST_SECRET_BYTES} bytes", "openssl rand -hex 32")
        if self.secret is None and not _only_here(split_address(self.listen)[0]):
            raise InvalidArgument(f"peers at {self.listen} need a secret", "others than this machine can reach it")
        for place in self.at:
            if not place.startswith("/"):
                split_address(place)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The tiers of one worker process, the fastest first; any of them may be missing."""

    block_bytes: int
    """The size of the largest block; what a slot holds."""
    host: HostSettings | None = None
    disk: DiskSettings | None = None
    objects: ObjectSettings | None = None
    writing: Writing = Writing.THROUGH
    load_threads: int = 4
    save_threads: int = 2
    load_bytes_in_flight: int = 1 << 30
    save_bytes_in_flight: int = 256 << 20
    """Saves beyond this are dropped and counted, never waited for."""
    measure_every_s: float = 60.0
    """How long a tier may go without being loaded from before the store reads some blocks to know its speed."""
    tenant_share: float = 1.0
    """The largest part of a tier that one tenant may fill."""
    tenant_shares: Mapping[str, float] = field(default_factory=dict)
    """The same for tenants by name."""
    peers: PeerSettings | None = None
    """Beside the tiers: read from, never written to."""

    def __post_init__(self) -> None:
        """Refuse what no store could be opened with."""
        if self.block_bytes <= 0:
            raise InvalidArgument("block_bytes must be above 0")
        if self.host is None and self.disk is None and self.objects is None:
            raise InvalidArgument("a block store needs a tier", "give host, disk or objects")
        for name, tier in (("host", self.host), ("disk", self.disk), ("objects", self.objects)):
            if tier is not None and tier.size_bytes < self.block_bytes:
                raise InvalidArgument(
                    f"the {name} tier of {tier.size_bytes} bytes has no room for a block of {self.block_bytes}",
                    "give it more bytes, or leave it out",
                )


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` or `[HOST]:PORT`; raises InvalidArgument."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MOST_PORT:
        raise InvalidArgument(f"'{text}' is no address of peers", "write HOST:PORT, or the path of a folder")
    return host.strip("[]"), int(port)


def _only_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_bytes(text: str) -> int:
    """Return a size such as `512MiB`, `4GB`, `100G` or `4096` in bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", text.strip(), re.IGNORECASE)
    if match is None:
        raise InvalidArgument(f"'{text}' is no size", "write a number and a unit, such as 4GiB or 500MB")
    return int(float(match[1]) * _UNITS[match[2].lower()])
