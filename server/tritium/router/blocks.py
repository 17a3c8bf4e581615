"""Block hashes: the name under which the router knows a stretch of a prompt.

A block's hash covers its tokens and, by chaining, everything before them, so that equal hashes mean equal prefixes.
Hashes route, they never decide what an engine reuses: a collision costs a detour, not a wrong answer.
"""

import sys
from array import array
from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

_TOKEN_BYTES = 4


def seed_of(*, salt: str = "", lora: str = "") -> int:
    """Return the hash that stands before the first block, so that tenants and adapters never share blocks."""
    if not salt and not lora:
        return 0
    return xxh3_64_intdigest(f"{len(salt)}:{salt}{lora}".encode())


def hash_blocks(token_ids: Sequence[int], block_tokens: int, seed: int = 0) -> list[int]:
    """Return the chained xxh3 hash of every full block.

    `seed` is `seed_of(...)` for a prompt, or the hash of the parent for blocks in the middle of one.

    Raises:
        OverflowError: a token id that is no unsigned 32-bit number.
    """
    tokens = array("I", token_ids)
    if sys.byteorder == "big":
        tokens.byteswap()
    raw = memoryview(tokens).cast("B")
    width = block_tokens * _TOKEN_BYTES
    hashes: list[int] = []
    block = seed
    for start in range(0, len(raw) - width + 1, width):
        block = xxh3_64_intdigest(raw[start : start + width], block)
        hashes.append(block)
    return hashes
