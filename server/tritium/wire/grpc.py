"""What a gRPC handler is handed: serialised messages in and out, and the call they belong to.

Two transports run the same table of methods: our own HTTP/2 protocol (`wire.h2`) and grpcio's server
(`wire.grpcio`, the reference in tests).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tritium.wire.status import Status


class GrpcError(Exception):
    """End the call with this status; `message` travels percent-encoded in grpc-message."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Call(Protocol):
    """One RPC.

    Contract: `write` queues a message and returns; `drain` waits for flow control. `on_cancel` callbacks run once
    when the peer resets the stream, closes the connection, or the deadline passes; at once if that has happened, never
    after the handler has returned. A handler is not cancelled for it: it sees `cancelled`, its writes do nothing, and
    the iterator of its requests raises GrpcError(CANCELLED). Values of -bin metadata are decoded.
    """

    method: str
    metadata: Sequence[tuple[bytes, bytes]]
    peer: str
    deadline_s: float | None
    """Seconds the client gave the call (grpc-timeout), counted from its arrival."""

    @property
    def cancelled(self) -> bool:
        """Tell whether nobody waits for the answer any more."""
        ...

    @property
    def server_leaves(self) -> bool:
        """Tell whether the server is shutting down: what is under way is finished, what is new should be refused."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """Return how much of what was written waits for the client."""
        ...

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call back when the call is cancelled."""
        ...

    def write(self, message: "Reply") -> None:
        """Send one message of a streaming response."""
        ...

    async def drain(self) -> None:
        """Wait until the peer's window lets more through."""
        ...


Reply = bytes | memoryview | Sequence[bytes | bytearray | memoryview]
"""A message, or the parts of one in order; large parts are not copied and must not change until they have left."""

Unary = Callable[[bytes | memoryview, Call], Awaitable[Reply]]
Bidi = Callable[[AsyncIterator[bytes | memoryview], Call], Awaitable[None]]


class Effort(StrEnum):
    """How much time goes into compressing an answer."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Methods:
    """The methods of a server by full path, e.g. /inference.GRPCInferenceService/ModelInfer."""

    unary: Mapping[str, Unary] = field(default_factory=dict)
    bidi: Mapping[str, Bidi] = field(default_factory=dict)
    prompt: frozenset[str] = frozenset()
    """Unary methods that may run without a task (see `wire.prompt`)."""
    compressed: frozenset[str] = frozenset()
    """Methods whose answers are compressed where the client takes it and it makes them smaller."""
    effort: Effort = Effort.NONE
    """What is spent on `compressed` methods; NONE compresses nothing."""


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Who pings whom, and how old a connection gets: gRPC's channel arguments of the same meaning; 0 is no bound."""

    ping_s: float = 0.0
    """After so long a silence the client is asked whether it is there."""
    answer_s: float = 20.0
    """A client that has not answered by then is given up."""
    without_calls: bool = False
    """Whether pings go both ways on a connection that has no call under way."""
    pings_without_data: int = 2
    """How many pings are sent before the next message; more would trouble proxies."""
    client_ping_s: float = 300.0
    """A client that pings sooner than this, with nothing sent to it in between, earns a strike."""
    strikes: int = 0
    """How many are forgiven before the connection is closed."""
    age_s: float = 0.0
    """At this age, give or take a tenth, a connection takes no new calls, so that clients go to look for servers."""
    age_grace_s: float = 0.0
    """How long calls under way may go on after that."""


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """What a connection may cost; sizes in bytes, times in seconds."""

    message_bytes: int = (1 << 31) - 1
    header_bytes: int = 64 << 10
    concurrent_streams: int = 1024
    stream_window: int = 4 << 20
    connection_window: int = 16 << 20
    unsent_bytes: int = 64 << 20
    """While a client has this much left unread, its new calls are refused."""
    handshake_s: float = 30.0
    """From the accepted socket to the client's first SETTINGS."""
    stall_s: float = 60.0
    """How long a finished answer may wait for a client that takes nothing."""
    keepalive: Keepalive = Keepalive()
