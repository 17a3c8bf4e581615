"""One RPC: the Call that a handler sees, its messages on their way in, and its answer on the way out.

OPEN --peer's END_STREAM--> HALF CLOSED --our trailers have left--> ENDED
|                             |
+-- RST_STREAM, deadline, lost connection, our own reset ------> CANCELLED
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from tritium.wire.grpc import GrpcError, Reply
from tritium.wire.h2 import replies
from tritium.wire.h2.flow import Credit
from tritium.wire.h2.headers import Head
from tritium.wire.h2.messages import Assembler, Message, Packed
from tritium.wire.h2.outbox import Outbox
from tritium.wire.h2.outlet import Outlet
from tritium.wire.status import Status

DEADLINE_MESSAGE = "Deadline Exceeded"


class StreamHost(Protocol):
    """What a stream needs of its connection."""

    peer: str
    outbox: Outbox
    loop: asyncio.AbstractEventLoop

    @property
    def server_leaves(self) -> bool:
        """Tell whether the server is shutting down."""
        ...

    def give_credit(self, stream: "Stream", held: int) -> None:
        """Let the peer send `held` bytes more on this stream."""
        ...


class Stream:
    """A call under way. It is the `Call` of its handler, and for streaming methods the iterator of its requests."""

    __slots__ = (
        "_callbacks",
        "_host",
        "_inbox",
        "_timer",
        "_waiter",
        "assembler",
        "born",
        "cancelled",
        "credit",
        "deadline_s",
        "half_closed",
        "head",
        "held",
        "id",
        "metadata",
        "method",
        "outlet",
        "owed",
        "packs",
        "peer",
        "received",
        "streaming",
    )

    def __init__(self, host: StreamHost, stream_id: int, head: Head, assembler: Assembler, credit: Credit) -> None:
        self._host = host
        self.id = stream_id
        self.head = head
        self.method = head.path
        self.metadata: Sequence[tuple[bytes, bytes]] = head.metadata
        self.peer = host.peer
        self.deadline_s = head.timeout_s
        self.assembler = assembler
        self.credit = credit
        self.outlet: Outlet = host.outbox.open(stream_id)
        self.half_closed = False
        self.cancelled = False
        self.packs = False
        """Whether the answer has to go through `pack` first."""
        self.streaming = False
        self.received = 0
        self.held = 0
        """Bytes of requests that wait for the handler."""
        self.owed = 0
        """Bytes received for which the peer has no new credit yet."""
        self.born = host.loop.time()
        self._inbox: deque[Message] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._callbacks: list[Callable[[], None]] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # the handler's side

    @property
    def over(self) -> bool:
        """Tell whether nothing more can be answered."""
        return self.cancelled or self.outlet.closed or self.outlet.trailers is not None

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call back when the call is cancelled; at once if it already is."""
        if self.cancelled:
            self._host.loop.call_soon(callback)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    @property
    def server_leaves(self) -> bool:
        """Tell whether the server is shutting down."""
        return self._host.server_leaves

    @property
    def unsent_bytes(self) -> int:
        """Return how much of what was written waits for the client."""
        return self.outlet.pending_bytes

    def write(self, message: Reply) -> None:
        """Send one message of a streaming response; nothing happens when nobody waits for it."""
        if not self.over:
            self._host.outbox.send(self.outlet, message)

    async def drain(self) -> None:
        """Wait until the peer's window lets more through, or the call is over."""
        gate = self.outlet.gate
        if gate is not None and gate.shut:
            await gate.passed()

    def __aiter__(self) -> "Stream":
        """Iterate over the requests of a streaming call."""
        return self

    async def __anext__(self) -> bytes | memoryview:
        """Return the next request.

        Raises:
            StopAsyncIteration: The client has sent its last.
            GrpcError: The call was cancelled, or the request is not what its compression says.
        """
        while not self._inbox:
            if self.cancelled:
                raise GrpcError(Status.CANCELLED, "the call was cancelled")
            if self.half_closed:
                raise StopAsyncIteration
            self._waiter = self._host.loop.create_future()
            await self._waiter
        message = self._inbox.popleft()
        self.held -= len(message)
        self._host.give_credit(self, 0)
        return await message.unpack() if isinstance(message, Packed) else message

    # the connection's side

    def deliver(self, messages: list[Message]) -> None:
        """Queue requests for the handler."""
        for message in messages:
            self._inbox.append(message)
            self.held += len(message)
        self._wake()

    @property
    def requests(self) -> int:
        """Count the requests that wait for the handler."""
        return len(self._inbox)

    def only_request(self) -> Message:
        """Take the one request of a unary call."""
        return self._inbox.popleft()

    def close_half(self) -> None:
        """Note that the client has sent its last."""
        self.half_closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def start_clock(self) -> None:
        """Begin to count the deadline."""
        if self.deadline_s is not None:
            self._timer = self._host.loop.call_later(self.deadline_s, self._deadline_passed)

    def stop_clock(self) -> None:
        """Stop counting: the answer is complete."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _deadline_passed(self) -> None:
        self.fail(Status.DEADLINE_EXCEEDED, DEADLINE_MESSAGE)
        self.cancel()

    def cancel(self) -> None:
        """Tell the handler that nobody waits any more."""
        if self.cancelled:
            return
        self.cancelled = True
        self.stop_clock()
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            self._host.loop.call_soon(callback)
        self._inbox.clear()
        self._wake()
        if self.outlet.gate is not None:
            self.outlet.gate.open()

    def forget_callbacks(self) -> None:
        """Note that the handler is done: there is nothing left to cancel."""
        self._callbacks = None

    # the answer

    def reply(self, message: Reply) -> None:
        """Answer a unary call."""
        if not self.over:
            self._host.outbox.send(self.outlet, message, replies.TRAILERS_OK)

    async def pack(self, message: Reply) -> Reply:
        """Prepare the answer to a unary call."""
        return message

    def succeed(self) -> None:
        """End a streaming call well."""
        if not self.over:
            self._host.outbox.finish(self.outlet, replies.TRAILERS_OK)

    def fail(self, status: Status, message: str) -> None:
        """End the call with an error."""
        if self.over:
            return
        if self.outlet.begun or self.outlet.pending_bytes:
            self._host.outbox.finish(self.outlet, replies.trailers(status, message))
        else:
            self._host.outbox.refuse(self.outlet, replies.trailers_only(status, message))
