"""A worker's blocks as bytes: what one router tells another that starts, or that has missed events.

    magic "TKVD" | version u16 | tiers u16 | block_tokens u32 | last_event u64
    a tier: number u8 | named u8 | count u32 | our hashes u64 * count | where named: engine hashes u64 * count
    xxh3 of all that u64

All little-endian; a block takes 8 bytes, or 16 where its engine's own hash is told beside ours.
"""

import struct
import sys
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

from tritium.core.errors import InvalidArgument
from tritium.router.tiers import Tier

VERSION = 1

_MAGIC = b"TKVD"
_HEAD = struct.Struct("<4sHHIQ")
_TIER = struct.Struct("<BBI")
_SUM = struct.Struct("<Q")
_TIERS = (Tier.DEVICE, Tier.HOST, Tier.DISK, Tier.OBJECT)
_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Dump:
    """All that is known of one worker: our hashes by its engine's, tier by tier.

    `last_event` is the number of the last event that is in it; later ones are to be applied after it.
    """

    block_tokens: int
    tiers: Mapping[Tier, Mapping[int, int]]
    last_event: int = 0
    strange: int = 0
    """Blocks that were left out, for they lie in tiers that only a newer release knows."""


def encode(dump: Dump) -> bytes:
    """Write a dump."""
    parts = [_HEAD.pack(_MAGIC, VERSION, len(dump.tiers), dump.block_tokens, dump.last_event)]
    for tier, held in dump.tiers.items():
        named = any(name != block for name, block in held.items())
        parts += [_TIER.pack(_TIERS.index(tier), named, len(held)), _words(held.values())]
        if named:
            parts.append(_words(held.keys()))
    body = b"".join(parts)
    return body + _SUM.pack(xxh3_64_intdigest(body))


def decode(data: bytes) -> Dump:
    """Read a dump.

    Raises:
        InvalidArgument: it is none, of another version, cut short or damaged.
    """
    if len(data) < _HEAD.size + _SUM.size or data[:4] != _MAGIC:
        raise InvalidArgument("this is no dump of a KV index")
    _, version, tiers, block_tokens, last_event = _HEAD.unpack_from(data)
    if version != VERSION:
        raise InvalidArgument(f"the dump of a KV index has version {version}, this router reads version {VERSION}")
    body = memoryview(data)[: -_SUM.size]
    if xxh3_64_intdigest(body) != _SUM.unpack_from(data, len(body))[0]:
        raise InvalidArgument("the dump of a KV index is damaged or cut short", hint="ask for another one")
    found: dict[Tier, dict[int, int]] = {}
    at = _HEAD.size
    strange = 0
    try:
        for _ in range(tiers):
            number, named, count = _TIER.unpack_from(body, at)
            begin = at + _TIER.size
            at = begin + count * _HASH_BYTES
            names = blocks = _numbers(body[begin:at])
            if named:
                names = _numbers(body[at : at + count * _HASH_BYTES])
                at += count * _HASH_BYTES
            if number < len(_TIERS):
                found[_TIERS[number]] = dict(zip(names, blocks, strict=True))
            else:
                strange += count
    except (struct.error, ValueError):
        at = -1
    if at != len(body):
        raise InvalidArgument("the dump of a KV index says more than is in it")
    return Dump(block_tokens, found, last_event, strange)


def _words(hashes: Iterable[int]) -> bytes:
    words = array("Q", hashes)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def _numbers(raw: memoryview) -> "array[int]":
    words = array("Q")
    words.frombytes(raw)
    if sys.byteorder == "big":
        words.byteswap()
    return words
