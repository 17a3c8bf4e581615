"""What stands in a sequence, as far as the scheduler asks: the names of its full blocks."""

from array import array
from typing import Protocol

import xxhash

from tritium.backends.mocker.journal import Block


class Content(Protocol):
    """Names the blocks of one sequence; the same beginning has the same names in every sequence."""

    def extend(self, chain: list[Block], length: int, block_tokens: int) -> None:
        """Append to `chain` those full blocks of the first `length` tokens that it does not have yet."""


class TokenContent:
    """Content known token by token: a block's name is the chained hash of its tokens, adapter and salt before them."""

    __slots__ = ("lora", "salt", "tokens")

    def __init__(self, tokens: list[int], *, lora: str = "", salt: str = "") -> None:
        self.tokens = tokens
        self.lora = lora
        self.salt = salt

    def extend(self, chain: list[Block], length: int, block_tokens: int) -> None:
        """Append to `chain` those full blocks of the first `length` tokens that it does not have yet."""
        for start in range(len(chain) * block_tokens, length - block_tokens + 1, block_tokens):
            tokens = array("I", self.tokens[start : start + block_tokens])
            parent = chain[-1].hash if chain else None
            seed = f"{self.lora}\0{self.salt}".encode() if parent is None else parent.to_bytes(8, "little")
            name = xxhash.xxh3_64_intdigest(seed + tokens.tobytes())
            chain.append(Block(name, parent, tokens, self.lora, self.salt))
