"""What a router must be told of a block beside its hash: the tokens in it, and the block before it.

A store knows bytes only. So the scheduler keeps this of the blocks that requests brought before it, for as long as a
tier holds them; what a restart finds again is announced when a request first brings it.
"""

from typing import TYPE_CHECKING

from vllm.distributed.kv_events import BlockRemoved, BlockStored, KVCacheEvent
from vllm.v1.core.kv_cache_utils import BlockHash, maybe_convert_block_hash

from tritium.backends.vllm.tiers.holdings import Change, Holdings
from tritium.kv.block import TENANT_BYTES, Tier, tenant_digest

if TYPE_CHECKING:
    from vllm.v1.request import Request

MEDIA = {Tier.HOST: "CPU", Tier.DISK: "STORAGE", Tier.OBJECT: "OBJECT"}
"""Our tiers by vLLM's media, which `tritium.backends.vllm.events` reads; what peers hold they announce themselves."""


def names_of(request: "Request", first: int, last: int) -> list[bytes]:
    """Return what a request's blocks are called here: the tenant, which is the cache salt, and vLLM's hash."""
    tenant = tenant_digest(request.cache_salt or "")
    return [tenant + block for block in request.block_hashes[first:last]]


class Lineage:
    """Blocks that requests brought, and the events that are due for them."""

    def __init__(self, holdings: Holdings, block_tokens: int) -> None:
        self._holdings = holdings
        self._block_tokens = block_tokens
        self._stories: dict[bytes, BlockStored] = {}
        """Of each block the event that announces it, but for its medium."""
        self._events: list[KVCacheEvent] = []

    def drain(self) -> list[KVCacheEvent]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events

    def meet(self, request: "Request", place: int) -> None:
        """Learn a request's block that is held or about to be saved, and announce it where that was not done yet."""
        (block,) = names_of(request, place, place + 1)
        if block not in self._stories:
            self._stories[block] = _story(request, place, self._block_tokens)
            self._announce(block, [tier for tier in self._holdings.tiers(block) if tier in MEDIA])

    def forget(self, block: bytes) -> None:
        """Drop what is known of a block that was not saved."""
        if block not in self._holdings:
            self._stories.pop(block, None)

    def take(self, changes: list[Change]) -> None:
        """Turn what the first rank's store tells into events."""
        for change in changes:
            if change.block not in self._stories or change.tier not in MEDIA:
                continue
            if change.stored:
                self._announce(change.block, [change.tier])
                continue
            name = maybe_convert_block_hash(BlockHash(change.block[TENANT_BYTES:]))
            self._events.append(BlockRemoved(block_hashes=[name], medium=MEDIA[change.tier]))
            if not self._holdings.tiers(change.block):
                del self._stories[change.block]

    def _announce(self, block: bytes, tiers: list[Tier]) -> None:
        story = self._stories[block]
        for tier in tiers:
            self._events.append(
                BlockStored(
                    block_hashes=story.block_hashes,
                    parent_block_hash=story.parent_block_hash,
                    token_ids=story.token_ids,
                    block_size=story.block_size,
                    lora_id=None,
                    medium=MEDIA[tier],
                    lora_name=None,
                    extra_keys=story.extra_keys,
                )
            )


def _story(request: "Request", place: int, block_tokens: int) -> BlockStored:
    """Return the event of a block; with media no tokens, for these are placeholders: the device's event named it."""
    hashes = request.block_hashes
    tokens = [] if request.mm_features else request.all_token_ids[place * block_tokens : (place + 1) * block_tokens]
    return BlockStored(
        block_hashes=[maybe_convert_block_hash(hashes[place])],
        parent_block_hash=maybe_convert_block_hash(hashes[place - 1]) if place else None,
        token_ids=list(tokens),
        block_size=block_tokens,
        lora_id=None,
        medium=None,
        lora_name=None,
        extra_keys=[(request.cache_salt,)] if request.cache_salt and not place else None,
    )
