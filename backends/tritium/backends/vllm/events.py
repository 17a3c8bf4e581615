"""vLLM's KV events: a stream of ZMQ messages from the engine's process, told on as ours.

With a plain TCP endpoint vLLM's publisher connects and the subscriber binds, so the port is chosen here, once.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from tritium.backends.engine import BlocksRemoved, BlocksStored, CacheCleared, KvEvent

TIERS = {None: "device", "GPU": "device", "CPU": "host", "STORAGE": "disk"}
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


class EventReader:
    """Receives the events of one engine. Create it before the engine, `start` it once the loop runs.

    `translate` reads a message: vLLM's own, unless another engine publishes like vLLM.
    """

    def __init__(self, translate: Callable[[bytes], list[KvEvent]] = translate) -> None:
        self._translate = translate
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.set_hwm(0)
        self._socket.subscribe(b"")
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._task: asyncio.Task[None] | None = None
        self._expected = 0
        self.lost = 0
        """Messages that never arrived; after each gap the cache is taken as unknown."""

    def start(self, on_events: Callable[[list[KvEvent]], None]) -> None:
        """Begin to tell events on."""
        self._task = asyncio.get_running_loop().create_task(self._run(on_events))

    async def _run(self, on_events: Callable[[list[KvEvent]], None]) -> None:
        while True:
            _topic, number, payload = await self._socket.recv_multipart()
            events = self._translate(payload)
            sequence = int.from_bytes(number, "big")
            if sequence != self._expected:
                # What was removed meanwhile is not known; an index that forgets costs less than one that lies.
                self.lost += abs(sequence - self._expected)
                events.insert(0, CacheCleared())
            self._expected = sequence + 1
            if events:
                on_events(events)

    def close(self) -> None:
        """Stop receiving and free the port."""
        if self._task is not None:
            self._task.cancel()
        self._socket.close(0)
        self._context.term()
