"""What a block store is opened with, and how that is written in one line: `host=4GiB,disk=100GiB:/var/kv,...`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tritium.core.errors import InvalidArgument

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
    options: Mapping[str, str] = field(default_factory=dict)
    """What obstore needs beside that: keys, region."""


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


def parse_bytes(text: str) -> int:
    """Return a size such as `512MiB`, `4GB`, `100G` or `4096` in bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", text.strip(), re.IGNORECASE)
    if match is None:
        raise InvalidArgument(f"'{text}' is no size", "write a number and a unit, such as 4GiB or 500MB")
    return int(float(match[1]) * _UNITS[match[2].lower()])
