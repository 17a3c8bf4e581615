"""SGLang's KV events: vLLM's messages over ZMQ, with tiers and salts told in its own words."""

from typing import Any

import msgspec

from tritium.backends.engine import BlocksRemoved, BlocksStored, CacheCleared, KvEvent

TIERS = {None: "device", "GPU": "device", "CPU_PINNED": "host", "DISK": "disk", "EXTERNAL": "other"}

_MASK = (1 << 64) - 1


class _Stored(msgspec.Struct, tag="BlockStored"):
    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    medium: str | None = None
    cache_salt: str | None = None
    lora_name: str | None = None


class _Removed(msgspec.Struct, tag="BlockRemoved"):
    block_hashes: list[int]
    medium: str | None = None


class _Cleared(msgspec.Struct, tag="AllBlocksCleared"):
    pass


class _Batch(msgspec.Struct, array_like=True):
    ts: float
    events: list[_Stored | _Removed | _Cleared]
    attn_dp_rank: Any = None


_DECODER = msgspec.msgpack.Decoder(_Batch)


def translate(payload: bytes) -> list[KvEvent]:
    """Translate one message of SGLang; its hashes are signed, ours are not.

    Raises:
        msgspec.DecodeError: the message is not as this version of SGLang writes it.
    """
    events: list[KvEvent] = []
    for event in _DECODER.decode(payload).events:
        match event:
            case _Stored():
                parent = event.parent_block_hash
                events.append(
                    BlocksStored(
                        [block & _MASK for block in event.block_hashes],
                        None if parent is None else parent & _MASK,
                        event.token_ids,
                        event.block_size,
                        TIERS.get(event.medium, "other"),
                        event.lora_name or "",
                        event.cache_salt or "",
                    )
                )
            case _Removed():
                hashes = [block & _MASK for block in event.block_hashes]
                events.append(BlocksRemoved(hashes, TIERS.get(event.medium, "other")))
            case _Cleared():
                events.append(CacheCleared())
    return events
