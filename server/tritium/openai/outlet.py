"""Server-sent events on their way to one client: in one piece where it keeps up, held in order where it does not.

FLOWING --a breath's bytes are out--> HELD --the client took enough--> FLOWING
                                       `-- stall_bytes wait --> the answer fails
"""

import asyncio
from collections.abc import Callable

from tritium.core.errors import InferenceError, Overloaded
from tritium.wire.http import Headers, Request, Stream

_BYTES_A_BREATH = 16_384
"""How much is written before the client's pace is looked at."""


class Outlet:
    """The stream of one answer. `on_stall` is called once more than `stall_bytes` wait for the client."""

    def __init__(self, request: Request, stall_bytes: int, on_stall: Callable[[InferenceError], None]) -> None:
        self._request = request
        self._stall_bytes = stall_bytes
        self._on_stall = on_stall
        self._stream: Stream | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._unchecked_bytes = 0
        self._last = False
        self._drain: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        """Tell whether the head has left, so that a failure can only be told within the stream."""
        return self._stream is not None

    def begin(self, headers: Headers) -> None:
        """Begin the stream; its head leaves with the first events."""
        self._stream = self._request.stream(200, [*headers, (b"cache-control", b"no-cache")])

    def send(self, events: bytes, *, last: bool = False) -> None:
        """Send events in their order; the last ones end the stream."""
        self._last = self._last or last
        if self._drain is None:
            self._out(events)
            return
        self._held.append(events)
        self._held_bytes += len(events)
        if self._held_bytes > self._stall_bytes and not self._last:
            words = f"the client reads too slowly: {self._held_bytes} bytes wait for it"
            self._on_stall(Overloaded(words, hint="read faster"))

    def end(self, events: bytes) -> None:
        """Send these in place of whatever waits, and end the stream."""
        self._held.clear()
        if self._stream is not None:
            self._stream.end(events)

    def _out(self, events: bytes) -> None:
        assert self._stream is not None
        if self._last:
            self._stream.end(events)
        elif events:
            self._stream.write(events)
            self._unchecked_bytes += len(events)
            if self._unchecked_bytes >= _BYTES_A_BREATH:
                self._unchecked_bytes = 0
                self._drain = asyncio.get_running_loop().create_task(self._until_taken(self._stream))

    async def _until_taken(self, stream: Stream) -> None:
        await stream.drain()
        self._drain = None
        held, self._held, self._held_bytes = b"".join(self._held), [], 0
        if held or self._last:
            self._out(held)
