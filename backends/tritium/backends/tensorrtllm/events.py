"""TensorRT-LLM's KV events, as get_kv_cache_events_async gives them, told on as ours.

created (sizes of the cache; nothing to tell)    stored    removed    updated (a block moved between levels)
"""

from collections.abc import Mapping
from typing import Any

from tritium.backends.engine import BlocksRemoved, BlocksStored, KvEvent

TIERS = {0: "device", 1: "host"}
"""Cache levels: primary blocks on the GPU, secondary ones in the host's memory."""

_MASK = (1 << 64) - 1


class EventBook:
    """Follows the events of one engine; what a block holds is kept, for a move tells its hash only."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._blocks: dict[int, tuple[int | None, list[int], str]] = {}
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
        for block in data["blocks"]:
            tokens = [token["token_id"] for token in block["tokens"]]
            if len(tokens) < self._block_tokens:
                break  # a part of a block can be reused by TensorRT-LLM, but routes nobody
            number, tier = block["block_hash"] & _MASK, TIERS.get(block["cache_level"], "other")
            self._blocks[number] = (parent, tokens, tier)
            last = events[-1] if events else None
            if isinstance(last, BlocksStored) and last.tier == tier:
                last.hashes.append(number)
                last.token_ids.extend(tokens)
            else:
                events.append(BlocksStored([number], parent, list(tokens), self._block_tokens, tier))
            parent = number
        return events

    def _removed(self, number: int) -> list[KvEvent]:
        known = self._blocks.pop(number, None)
        return [] if known is None else [BlocksRemoved([number], known[2])]

    def _moved(self, data: Mapping[str, Any]) -> list[KvEvent]:
        number, level = data["block_hash"] & _MASK, data.get("cache_level")
        known = self._blocks.get(number)
        if known is None or level is None:
            return []
        parent, tokens, before = known
        tier = TIERS.get(level["new_value"], "other")
        if tier == before:
            return []
        self._blocks[number] = (parent, tokens, tier)
        return [
            BlocksRemoved([number], before),
            BlocksStored([number], parent, list(tokens), self._block_tokens, tier),
        ]
