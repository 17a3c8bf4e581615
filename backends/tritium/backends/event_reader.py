"""KV events of engines that publish them as vLLM does: numbered ZMQ messages from the engine's process.

    expected number      -> told on
    a later number       -> what is missing is asked of the engine's replay endpoint, told on in order, then this one
    an earlier number    -> it came by a replay already

With a plain TCP endpoint the publisher connects and the subscriber binds, so the port is chosen here, once. The engine
keeps its last messages (10,000) for replays; what is older than that, or not answered in time, is lost for good. The
blocks that were known stay known then: those that the engine let go unheard are taken as gone once it holds more than
it can (`cluster.mirror`), while to forget all would cost every hit on what it keeps.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import zmq
import zmq.asyncio

from tritium.backends.engine import KvEvent
from tritium.backends.loopback import LOOPBACK, free_port

REPLAY_S = 10.0
"""How long the engine may take over a replay; its publisher looks for questions ten times a second."""

_NUMBER_BYTES = 8
_END = (-1).to_bytes(_NUMBER_BYTES, "big", signed=True)


class EventReader:
    """Receives the events of one engine, whose messages `translate` reads.

    Create it before the engine, which is told its `endpoint` and its `replay_endpoint`; `start` it once the loop runs.
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
        self.replay_endpoint = f"tcp://{LOOPBACK}:{free_port()}"
        self._task: asyncio.Task[None] | None = None
        self._expected = 0
        self.lost = 0
        """Messages that neither came nor could be replayed."""
        self.replayed = 0
        """Messages that came by a replay alone."""

    def start(self, on_events: Callable[[list[KvEvent]], None]) -> None:
        """Begin to tell events on."""
        self._task = asyncio.get_running_loop().create_task(self._run(on_events))

    def metrics(self) -> dict[str, float]:
        """Return the counters by metric name."""
        return {
            "tritium_kv_events_lost_total": float(self.lost),
            "tritium_kv_events_replayed_total": float(self.replayed),
        }

    async def _run(self, on_events: Callable[[list[KvEvent]], None]) -> None:
        while True:
            *_, number, payload = await self._socket.recv_multipart()
            sequence = int.from_bytes(number, "big")
            if sequence > self._expected:
                await self._catch_up(sequence, on_events)
            if sequence >= self._expected:
                self._tell(sequence, payload, on_events)

    async def _catch_up(self, to: int, on_events: Callable[[list[KvEvent]], None]) -> None:
        """Tell what is missing before the message `to`, as far as the engine still has it.

        What a replay lacks at its beginning the engine has no more; what it lacks later was lost on the way, and is
        asked for again.
        """
        before = -1
        while before < self._expected < to:
            before = self._expected
            for at, (number, payload) in enumerate(await self._replay()):
                if number >= to or (at and number != self._expected):
                    break
                self.replayed += 1
                self._tell(number, payload, on_events)

    def _tell(self, sequence: int, payload: bytes, on_events: Callable[[list[KvEvent]], None]) -> None:
        self.lost += sequence - self._expected
        self._expected = sequence + 1
        if events := self._translate(payload):
            on_events(events)

    async def _replay(self) -> list[tuple[int, bytes]]:
        """Return what the engine still has from the expected message on, in order; nothing when it does not answer."""
        found: list[tuple[int, bytes]] = []
        with self._context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.set_hwm(0)
            socket.connect(self.replay_endpoint)
            await socket.send_multipart([b"", self._expected.to_bytes(_NUMBER_BYTES, "big")])
            # What has come until a timeout is in order, and of use.
            with suppress(TimeoutError):
                async with asyncio.timeout(REPLAY_S):
                    while True:
                        *_, number, payload = await socket.recv_multipart()
                        if number == _END:
                            break
                        found.append((int.from_bytes(number, "big"), payload))
        return found

    def close(self) -> None:
        """Stop receiving and free the port."""
        if self._task is not None:
            self._task.cancel()
        self._socket.close(0)
        self._context.term()
