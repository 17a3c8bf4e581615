"""What a block is called and where it may lie.

    key = shape digest (16 bytes) | tenant digest (8 bytes) | chained block hash (8 to 32 bytes)

A key names the bytes of a block completely: another model, dtype, layout, share of the heads or block size makes
another key, so a block can never be taken for one it does not fit.
"""

from dataclasses import dataclass, fields
from enum import StrEnum

import xxhash

SHAPE_BYTES = 16
TENANT_BYTES = 8
MOST_KEY_BYTES = 56


class Tier(StrEnum):
    """Where a block lies below the device, the fastest first; by the names that the router prices."""

    HOST = "host"
    PEER = "peer"
    """Another worker's host memory."""
    DISK = "disk"
    OBJECT = "object"


def tenant_digest(tenant: str) -> bytes:
    """Return how a tenant stands in keys."""
    return xxhash.xxh3_64_digest(tenant.encode())


def tenant_of(key: bytes) -> bytes:
    """Return the tenant's digest out of a key."""
    return key[SHAPE_BYTES : SHAPE_BYTES + TENANT_BYTES]


@dataclass(frozen=True, slots=True)
class Namespace:
    """Whose blocks these are and how their bytes are laid out; two that differ in any field share nothing."""

    model: str
    """The model with its revision and adapter, as exactly as the caller can name it."""
    dtype: str
    layout: str
    """How a block's bytes are ordered, e.g. `layers,kv,heads,tokens,size` with their numbers."""
    block_tokens: int
    tp_size: int = 1
    tp_rank: int = 0
    tenant: str = ""

    @property
    def prefix(self) -> bytes:
        """Return what the keys of this namespace begin with."""
        return self.shape + tenant_digest(self.tenant)

    @property
    def shape(self) -> bytes:
        """Return the part of the prefix that stands before the tenant."""
        parts = [str(getattr(self, field.name)) for field in fields(self) if field.name != "tenant"]
        # Lengths stand before the parts, so that no two lists of parts are the same text.
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return xxhash.xxh3_128_digest(text.encode())

    def key(self, block_hash: bytes) -> bytes:
        """Return the key of the block with this chained hash (at most 32 bytes)."""
        return self.prefix + block_hash
