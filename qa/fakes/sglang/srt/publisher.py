"""KV events over ZMQ as SGLang's ZmqEventPublisher sends them: topic, number, msgpack of a batch."""

import time
from typing import Any

import msgspec
import zmq


class KVCacheEvent(msgspec.Struct, omit_defaults=True, tag=True):
    """Events are maps whose `type` is the class's name."""


class BlockStored(KVCacheEvent):
    """Blocks that entered the cache."""

    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None = None
    cache_salt: str | None = None
    session_id: str | None = None
    lora_name: str | None = None


class EventBatch(msgspec.Struct, array_like=True):
    """What one message holds."""

    ts: float
    events: list[Any]
    attn_dp_rank: int | None = None


class Publisher:
    """A PUB socket that connects, since the endpoint names a host."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.connect(endpoint)
        self._number = 0

    def stored(self, tokens: list[int], size: int) -> None:
        """Tell of the full blocks of a prompt; the hashes are signed, as SGLang's are."""
        count = len(tokens) // size
        if not count:
            return
        hashes = [-(sum(tokens[: (at + 1) * size]) + 1) for at in range(count)]
        event = BlockStored(hashes, None, tokens[: count * size], size, None, medium="GPU")
        payload = msgspec.msgpack.encode(EventBatch(time.time(), [event], 0))
        self._socket.send_multipart([b"", self._number.to_bytes(8, "big"), payload])
        self._number += 1

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(0)
        self._context.term()
