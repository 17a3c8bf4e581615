"""Block hashes: the name under which the router knows a stretch of a prompt.

A block's hash covers its tokens and, by chaining, everything before them, so that equal hashes mean equal prefixes.
Hashes route, they never decide what an engine reuses: a collision costs a detour, not a wrong answer.
"""

import sys
from array import array
from collections.abc import Mapping, Sequence

from xxhash import xxh3_64_intdigest

_TOKEN_BYTES = 4


def seed_of(*, salt: str = "", lora: str = "") -> int:
    """Return the hash that stands before the first block, so that tenants and adapters never share blocks."""
    if not salt and not lora:
        return 0
    return xxh3_64_intdigest(f"{len(salt)}:{salt}{lora}".encode())


def hash_blocks(
    token_ids: Sequence[int], block_tokens: int, seed: int = 0, *, media: Mapping[int, str] | None = None
) -> list[int]:
    """Return the chained xxh3 hash of every full block.

    `seed` is `seed_of(...)` for a prompt, or the hash of the parent for blocks in the middle of one. `media` names what
    stands behind placeholder tokens (an image's digest, by the token it begins at): the block it begins in and all
    after it are then others than those of another image in its place.

    Raises:
        OverflowError: a token id that is no unsigned 32-bit number.
    """
    tokens = array("I", token_ids)
    if sys.byteorder == "big":
        tokens.byteswap()
    raw = memoryview(tokens).cast("B")
    width = block_tokens * _TOKEN_BYTES
    if media:
        return _hash_with_media(raw, width, seed, media)
    hashes: list[int] = []
    block = seed
    for start in range(0, len(raw) - width + 1, width):
        block = xxh3_64_intdigest(raw[start : start + width], block)
        hashes.append(block)
    return hashes


def _hash_with_media(raw: memoryview, width: int, seed: int, media: Mapping[int, str]) -> list[int]:
    """Fold what begins in a block into the seed of that block."""
    begins: dict[int, str] = {}
    for token in sorted(media):
        block, at = divmod(token * _TOKEN_BYTES, width)
        begins[block] = f"{begins.get(block, '')}{at}:{media[token]};"
    hashes: list[int] = []
    before = seed
    for number, start in enumerate(range(0, len(raw) - width + 1, width)):
        if number in begins:
            before = xxh3_64_intdigest(begins[number].encode(), before)
        before = xxh3_64_intdigest(raw[start : start + width], before)
        hashes.append(before)
    return hashes
