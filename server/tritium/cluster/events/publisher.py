"""A worker's side of events by NATS: its changes, by their numbers, into the stream of its namespace.

    change -> queue -> JetStream         NATS away: the queue fills; what it does not hold is missing, and asked for

Nobody waits for JetStream to have stored a change: fronts count (`cluster.following`), and what got lost on any way is
healed by the worker's dump.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import msgspec
import structlog

from tritium.cluster.events.link import NatsLink, ensure_stream
from tritium.cluster.events.place import NatsPlace, subject_of
from tritium.cluster.frames import CacheChanged

if TYPE_CHECKING:
    from nats.aio.client import Client

log = structlog.get_logger(__name__)

MOST_QUEUED = 10_000
"""Changes kept while NATS is away; of more, the oldest go."""


class EventPublisher:
    """The changes of one run of a worker."""

    def __init__(self, place: NatsPlace, namespace: str, run: str) -> None:
        self.link = NatsLink(place, f"tritium worker {run}", self._up, self._down)
        self.published = 0
        self.dropped = 0
        """Changes that were not kept until NATS was there again."""
        self._namespace = namespace
        self._subject = subject_of(namespace, run)
        self._queue: deque[CacheChanged] = deque()
        self._more = asyncio.Event()
        self._encoder = msgspec.msgpack.Encoder()
        self._sending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to publish."""
        self.link.start()

    def publish(self, changed: CacheChanged) -> None:
        """Queue a change; returns at once."""
        if len(self._queue) >= MOST_QUEUED:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(changed)
        self._more.set()

    def metrics(self) -> dict[str, float]:
        """Return counters by metric name."""
        return {
            "tritium_worker_events_connected": float(self.link.up.is_set()),
            "tritium_worker_events_published_total": float(self.published),
            "tritium_worker_events_dropped_total": float(self.dropped),
        }

    async def close(self) -> None:
        """Publish nothing any more."""
        self._down()
        await self.link.close()

    async def _up(self, client: "Client") -> None:
        await ensure_stream(client, self._namespace)
        self._sending = asyncio.get_running_loop().create_task(self._send(client))

    def _down(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    async def _send(self, client: "Client") -> None:
        """Send what is queued, and what comes, until the connection ends."""
        while True:
            self._more.clear()
            while self._queue:
                try:
                    await client.publish(self._subject, self._encoder.encode(self._queue[0]))
                except Exception as error:  # noqa: BLE001  as in `events.link`
                    log.debug("event_not_sent", reason=f"{type(error).__name__}: {error}")
                    return
                self._queue.popleft()
                self.published += 1
            await self._more.wait()
