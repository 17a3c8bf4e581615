"""A connection to NATS that comes back: every time it is there, `on_up` makes of it what its owner needs.

    DOWN --connected, on_up done--> UP --lost, or on_up failed--> DOWN --back-off--> ...

A NATS server that is away holds up nothing: requests go by the workers' own connections, and by what these tell fronts
notice in some seconds that they have missed changes, and ask for all of a cache.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import structlog

from tritium.cluster.events.place import MAX_AGE_S, MAX_BYTES, NatsPlace, stream_of, subject_of

if TYPE_CHECKING:
    from nats.aio.client import Client

FIRST_AGAIN_S = 0.2
LONGEST_AGAIN_S = 5.0
CONNECT_S = 5.0
PING_S = 10.0
"""A server that leaves two pings unanswered is gone."""

log = structlog.get_logger(__name__)


class NatsLink:
    """One connection; `on_lost` is told at once when it ends."""

    def __init__(
        self,
        place: NatsPlace,
        name: str,
        on_up: Callable[["Client"], Awaitable[None]],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.up = asyncio.Event()
        self.outages = 0
        """How often the connection was lost after it had been there."""
        self._place = place
        self._name = name
        self._on_up = on_up
        self._on_lost = on_lost
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, and do so again whenever it is lost."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def metrics(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """Return how it stands with the server."""
        yield "tritium_events_connected", {}, float(self.up.is_set())
        yield "tritium_events_outages_total", {}, float(self.outages)

    async def renew(self) -> None:
        """Give the connection up, in whatever state it is, and make another."""
        if self._client is not None:
            try:
                await self._client.close()
            except Exception as error:  # noqa: BLE001  nats-py raises errors of many kinds, the system's own among them
                log.debug("events_not_closed", nats=str(self._place), reason=f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.renew()

    async def _keep(self) -> None:
        again_s, told = FIRST_AGAIN_S, ""
        while True:
            closed = asyncio.Event()
            try:
                self._client = await self._connect(closed)
                await self._on_up(self._client)
            except Exception as error:  # noqa: BLE001  as above
                words = f"{type(error).__name__}: {error}"
                if words != told:
                    told = words
                    log.warning("events_unavailable", nats=str(self._place), reason=words)
                await self.renew()
                await asyncio.sleep(again_s)
                again_s = min(again_s * 2, LONGEST_AGAIN_S)
                continue
            again_s, told = FIRST_AGAIN_S, ""
            self.up.set()
            log.info("events_connected", nats=str(self._place))
            await closed.wait()
            self.up.clear()
            self.outages += 1
            self._on_lost()
            log.warning("events_lost", nats=str(self._place), effect="workers are asked for what changes, with a delay")

    async def _connect(self, closed: asyncio.Event) -> "Client":
        import nats  # noqa: PLC0415  only whoever asks for it has it

        async def ended() -> None:
            closed.set()

        async def failed(error: Exception) -> None:
            log.debug("events_fault", error=str(error))

        return await nats.connect(
            list(self._place.servers),
            name=self._name,
            allow_reconnect=False,
            # Also of a first connection nats-py makes 60 attempts, 2 s apart and without a word; ours is the back-off.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=int(CONNECT_S),
            ping_interval=int(PING_S),
            max_outstanding_pings=2,
            closed_cb=ended,
            error_cb=failed,
        )


async def ensure_stream(client: "Client", namespace: str) -> int:
    """Make the stream of a namespace where there is none; return the number of its last message."""
    from nats.js.api import DiscardPolicy, RetentionPolicy, StreamConfig  # noqa: PLC0415  as above
    from nats.js.errors import NotFoundError  # noqa: PLC0415

    stream = client.jetstream()
    name = stream_of(namespace)
    try:
        info = await stream.stream_info(name)
    except NotFoundError:
        info = await stream.add_stream(
            StreamConfig(
                name=name,
                subjects=[subject_of(namespace, "*")],
                retention=RetentionPolicy.LIMITS,
                discard=DiscardPolicy.OLD,
                max_age=MAX_AGE_S,
                max_bytes=MAX_BYTES,
                no_ack=True,
            )
        )
    return info.state.last_seq
