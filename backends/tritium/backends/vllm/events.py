"""vLLM's KV events: messages of its own, which `event_reader` receives, told on as ours."""

from typing import Any

import msgspec

from tritium.backends.engine import BlocksRemoved, BlocksStored, CacheCleared, KvEvent

TIERS = {None: "device", "GPU": "device", "CPU": "host", "STORAGE": "disk", "OBJECT": "object"}
"""vLLM's media by our tiers; "GPU" is where the engine computes, also when that is a CPU."""

_MASK = (1 << 64) - 1


class _Stored(msgspec.Struct, tag="BlockStored"):
    block_hashes: list[int | bytes]
    parent_block_hash: int | bytes | None
    token_ids: list[int]
    block_size: int
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: list[list[Any] | None] | None = None
    group_idx: int | None = None


class _Removed(msgspec.Struct, tag="BlockRemoved"):
    block_hashes: list[int | bytes]
    medium: str | None = None
    group_idx: int | None = None


class _Cleared(msgspec.Struct, tag="AllBlocksCleared"):
    pass


class _Batch(msgspec.Struct, array_like=True):
    ts: float
    events: list[_Stored | _Removed | _Cleared]
    data_parallel_rank: int | None = None


_DECODER = msgspec.msgpack.Decoder(_Batch)


def translate(payload: bytes) -> list[KvEvent]:
    """Translate one message of vLLM.

    Raises:
        msgspec.DecodeError: the message is not as this version of vLLM writes it.
    """
    events: list[KvEvent] = []
    for event in _DECODER.decode(payload).events:
        match event:
            # Groups beyond the first are the windows of a hybrid model; its full attention decides what is reused.
            case _Stored() if not event.group_idx:
                parent = event.parent_block_hash
                events.append(
                    BlocksStored(
                        [_number(block) for block in event.block_hashes],
                        None if parent is None else _number(parent),
                        event.token_ids,
                        event.block_size,
                        TIERS.get(event.medium, "other"),
                        event.lora_name or "",
                        _salt(event),
                        _media(event),
                    )
                )
            case _Removed() if not event.group_idx:
                hashes = [_number(block) for block in event.block_hashes]
                events.append(BlocksRemoved(hashes, TIERS.get(event.medium, "other")))
            case _Cleared():
                events.append(CacheCleared())
            case _:
                continue
    return events


def _number(block: int | bytes) -> int:
    return block if isinstance(block, int) else int.from_bytes(block, "big") & _MASK


def _salt(event: _Stored) -> str:
    """Read the cache salt out of the first block's extra keys, where it stands beside the adapter's name."""
    first = event.extra_keys[0] if event.extra_keys else None
    words = [key for key in first or () if isinstance(key, str) and key != event.lora_name]
    return words[-1] if words else ""


def _media(event: _Stored) -> dict[int, str]:
    """Read the images and the like out of the extra keys: a pair of identifier and offset in each block it lies in."""
    return {
        number * event.block_size + key[1]: str(key[0])
        for number, keys in enumerate(event.extra_keys or ())
        for key in keys or ()
        if isinstance(key, list) and len(key) == 2 and isinstance(key[1], int) and key[1] >= 0
    }
