"""TensorRT-LLM's KV events, as get_kv_cache_events_async gives them, told on as ours.

created (sizes of the cache; nothing to tell)    stored    removed    updated (a block moved between levels)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tritium.backends.engine import BlocksRemoved, BlocksStored, KvEvent

TIERS = {0: "device", 1: "host"}
"""Cache levels: primary blocks on the GPU, secondary ones in the host's memory."""

_MASK = (1 << 64) - 1


class EventBook:
    """Follows the events of one engine; what a block holds is kept, for a move tells its hash only."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._blocks: dict[int, _Block] = {}
        self._expected: int | None = None
        self.lost = 0
        """Events that never arrived. TensorRT-LLM repeats none, so what was known stays (as in `event_reader`)."""

    def translate(self, event: Mapping[str, Any]) -> list[KvEvent]:
        """Return what one event says."""
        number = event["event_id"]
        if self._expected is not None and number != self._expected:
            self.lost += abs(number - self._expected)
        self._expected = number + 1
        data = event["data"]
        match data["type"]:
            case "stored":
                return self._stored(data)
            case "removed":
                return [told for block in data["block_hashes"] for told in self._removed(block & _MASK)]
            case "updated":
                return self._moved(data)
        return []

    def _stored(self, data: Mapping[str, Any]) -> list[KvEvent]:
        events: list[KvEvent] = []
        parent = data["parent_hash"]
        parent = None if parent is None else parent & _MASK
        for told in data["blocks"]:
            tokens = [token["token_id"] for token in told["tokens"]]
            if len(tokens) < self._block_tokens:
                break  # a part of a block can be reused by TensorRT-LLM, but routes nobody
            number, tier = told["block_hash"] & _MASK, TIERS.get(told["cache_level"], "other")
            block = self._blocks[number] = _Block(parent, tokens, tier, told.get("cache_salt") or "", _media(told))
            last = events[-1] if events else None
            if isinstance(last, BlocksStored) and last.tier == tier:
                if block.media:
                    last.media = last.media | {len(last.token_ids): block.media}
                last.hashes.append(number)
                last.token_ids.extend(tokens)
            else:
                events.append(self._told(number, block))
            parent = number
        return events

    def _told(self, number: int, block: "_Block") -> BlocksStored:
        media = {0: block.media} if block.media else {}
        tokens = list(block.tokens)
        return BlocksStored(
            [number], block.parent, tokens, self._block_tokens, block.tier, salt=block.salt, media=media
        )

    def _removed(self, number: int) -> list[KvEvent]:
        known = self._blocks.pop(number, None)
        return [] if known is None else [BlocksRemoved([number], known.tier)]

    def _moved(self, data: Mapping[str, Any]) -> list[KvEvent]:
        number, level = data["block_hash"] & _MASK, data.get("cache_level")
        known = self._blocks.get(number)
        if known is None or level is None:
            return []
        tier = TIERS.get(level["new_value"], "other")
        if tier == known.tier:
            return []
        moved = self._blocks[number] = known._replace(tier=tier)
        return [BlocksRemoved([number], known.tier), self._told(number, moved)]


class _Block(NamedTuple):
    parent: int | None
    tokens: list[int]
    tier: str
    salt: str
    media: str
    """What part of which image or the like lies in it; empty for text."""


def _media(told: Mapping[str, Any]) -> str:
    keys = [key for key in told.get("mm_keys") or () if key.get("type") == "mm_key"]
    return ",".join(f"{key.get('hash')}+{key.get('start_offset')}" for key in keys)
