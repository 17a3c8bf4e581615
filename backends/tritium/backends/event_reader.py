"""KV events of engines that publish them as vLLM does: numbered ZMQ messages from the engine's process.

With a plain TCP endpoint the publisher connects and the subscriber binds, so the port is chosen here, once.
"""

import asyncio
from collections.abc import Callable

import zmq
import zmq.asyncio

from tritium.backends.engine import CacheCleared, KvEvent
from tritium.backends.loopback import LOOPBACK


class EventReader:
    """Receives the events of one engine, whose messages `translate` reads.

    Create it before the engine, which is told its `endpoint`; `start` it once the loop runs.
    """

    def __init__(self, translate: Callable[[bytes], list[KvEvent]]) -> None:
        self._translate = translate
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.set_hwm(0)
        self._socket.subscribe(b"")
        port = self._socket.bind_to_random_port(f"tcp://{LOOPBACK}")
        self.endpoint = f"tcp://{LOOPBACK}:{port}"
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
