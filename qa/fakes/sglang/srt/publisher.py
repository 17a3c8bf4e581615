"""KV events over ZMQ as SGLang's ZmqEventPublisher sends them: topic, number, msgpack of a batch."""

import threading
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
    """A PUB socket that connects, since the endpoint names a host, and a ROUTER that sends what went before again."""

    def __init__(self, endpoint: str, replay_endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.connect(endpoint)
        self._number = 0
        self._sent: list[tuple[bytes, bytes]] = []
        self._replay = self._context.socket(zmq.ROUTER)
        self._replay.setsockopt(zmq.RCVTIMEO, 100)
        self._replay.bind(replay_endpoint)
        self._open = True
        self._replaying = threading.Thread(target=self._answer, daemon=True)
        self._replaying.start()

    def stored(self, tokens: list[int], size: int) -> None:
        """Tell of the full blocks of a prompt; the hashes are signed, as SGLang's are."""
        count = len(tokens) // size
        if not count:
            return
        hashes = [-(sum(tokens[: (at + 1) * size]) + 1) for at in range(count)]
        event = BlockStored(hashes, None, tokens[: count * size], size, None, medium="GPU")
        payload = msgspec.msgpack.encode(EventBatch(time.time(), [event], 0))
        message = (self._number.to_bytes(8, "big"), payload)
        self._sent.append(message)
        self._socket.send_multipart([b"", *message])
        self._number += 1

    def close(self) -> None:
        """Close the sockets."""
        self._open = False
        self._replaying.join()
        self._replay.close(0)
        self._socket.close(0)
        self._context.term()

    def _answer(self) -> None:
        while self._open:
            try:
                peer, _, start = self._replay.recv_multipart()
            except zmq.Again:
                continue
            for number, payload in list(self._sent):
                if number >= start:
                    self._replay.send_multipart([peer, b"", number, payload])
            self._replay.send_multipart([peer, b"", (-1).to_bytes(8, "big", signed=True), b""])
