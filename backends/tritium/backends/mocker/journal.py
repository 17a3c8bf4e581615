"""What happens to the blocks of an engine, as its block manager tells it, and as KV events for a router."""

from array import array
from typing import NamedTuple, Protocol

from tritium.backends.engine import BlocksRemoved, BlocksStored, CacheCleared, KvEvent

DEVICE = "device"
HOST = "host"


class Block(NamedTuple):
    """A full block: the hash that names it and all before it, and what a KV event says of it."""

    hash: int
    parent: int | None
    tokens: "array[int]"
    lora: str
    salt: str


class Journal(Protocol):
    """Hears of every block that enters or leaves a tier, in order; `tier` is DEVICE or HOST."""

    def stored(self, block: Block, tier: str) -> None:
        """Note a block that has entered a tier."""

    def removed(self, block: Block, tier: str) -> None:
        """Note a block that has left a tier."""

    def cleared(self) -> None:
        """Note that everything was dropped that nobody used."""


class EventJournal:
    """A journal that gathers KV events; blocks in a row become one event."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._events: list[KvEvent] = []

    def take(self) -> list[KvEvent]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events

    def stored(self, block: Block, tier: str) -> None:
        """Note a block that has entered a tier."""
        last = self._events[-1] if self._events else None
        if (
            isinstance(last, BlocksStored)
            and last.hashes[-1] == block.parent
            and (last.tier, last.lora, last.salt) == (tier, block.lora, block.salt)
        ):
            last.hashes.append(block.hash)
            last.token_ids.extend(block.tokens)
            return
        tokens = block.tokens.tolist()
        self._events.append(
            BlocksStored([block.hash], block.parent, tokens, self._block_tokens, tier, block.lora, block.salt)
        )

    def removed(self, block: Block, tier: str) -> None:
        """Note a block that has left a tier."""
        last = self._events[-1] if self._events else None
        if isinstance(last, BlocksRemoved) and last.tier == tier:
            last.hashes.append(block.hash)
        else:
            self._events.append(BlocksRemoved([block.hash], tier))

    def cleared(self) -> None:
        """Note that everything was dropped that nobody used."""
        self._events.append(CacheCleared())
