"""A front's side of events by NATS: the changes of all workers of its namespaces, handed to whoever follows a run.

    connected -> consumer from where we were -> change -> its follower
    lost      -> nothing comes; what is known stays in use           -> connected: the stream tells again what we missed

What the stream keeps no longer is missing by its number, and the follower asks the worker itself (`cluster.following`).
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from tritium.cluster.events.link import NatsLink, ensure_stream
from tritium.cluster.events.place import NatsPlace, stream_of, subject_of
from tritium.cluster.frames import CacheChanged

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

CHECK_EVERY_S = 10.0
"""How often it is asked whether the consumers are still there; a server that restarts forgets them."""

log = structlog.get_logger(__name__)


class EventSubscriber:
    """The changes of some namespaces."""

    def __init__(self, place: NatsPlace, namespaces: Sequence[str], front: str) -> None:
        self.link = NatsLink(place, front, self._up, self._down)
        self.received = 0
        self.unreadable = 0
        self._namespaces = tuple(namespaces)
        self._followers: dict[str, Callable[[CacheChanged], None]] = {}
        self._last: dict[str, int] = {}
        """The number in the stream of the last change that came, by namespace."""
        self._decoder = msgspec.msgpack.Decoder(CacheChanged)
        self._checking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to receive."""
        self.link.start()

    def follow(self, run: str, on_changed: Callable[[CacheChanged], None]) -> None:
        """Have the changes of one run of a worker handed on from now on."""
        self._followers[run] = on_changed

    def leave(self, run: str) -> None:
        """Follow a run no more. Harmless when repeated."""
        self._followers.pop(run, None)

    def metrics(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """Return how it stands with the events."""
        yield from self.link.metrics()
        yield "tritium_events_received_total", {}, float(self.received)
        yield "tritium_events_unreadable_total", {}, float(self.unreadable)

    async def close(self) -> None:
        """Receive nothing any more."""
        self._down()
        await self.link.close()

    async def _up(self, client: "Client") -> None:
        consumers = [await self._consume(client, namespace) for namespace in self._namespaces]
        self._checking = asyncio.get_running_loop().create_task(self._check(client, consumers))

    def _down(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None

    async def _consume(self, client: "Client", namespace: str) -> tuple[str, str]:
        """Begin where we were, or now; return the names of stream and consumer."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy  # noqa: PLC0415  see `events.place`

        there = await ensure_stream(client, namespace)
        last = self._last.get(namespace)
        if last is None:
            start = ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
        elif last > there:
            # Another stream than before, which numbers anew.
            start = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
        else:
            start = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=last + 1)
        self._last.setdefault(namespace, there)
        start.ack_policy = AckPolicy.NONE
        start.inactive_threshold = 6 * CHECK_EVERY_S
        start.mem_storage = True

        async def take(message: "Msg") -> None:
            self._last[namespace] = message.metadata.sequence.stream
            self._take(message)

        consumer = await client.jetstream().subscribe(
            subject_of(namespace, "*"), stream=stream_of(namespace), config=start, cb=take, manual_ack=True
        )
        info = await consumer.consumer_info()
        return stream_of(namespace), info.name

    def _take(self, message: "Msg") -> None:
        self.received += 1
        follower = self._followers.get(message.subject.rpartition(".")[2])
        if follower is None:
            return
        try:
            changed = self._decoder.decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.unreadable += 1
            log.warning("event_unreadable", subject=message.subject, error=str(error))
            return
        follower(changed)

    async def _check(self, client: "Client", consumers: list[tuple[str, str]]) -> None:
        """Begin again where a consumer is gone without the connection."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            try:
                for stream, consumer in consumers:
                    await client.jetstream().consumer_info(stream, consumer)
            except Exception as error:  # noqa: BLE001  as in `events.link`
                log.warning("events_consumer_lost", reason=f"{type(error).__name__}: {error}")
                await self.link.renew()
                return
