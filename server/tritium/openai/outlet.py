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
    """The stream of one answer. `on_stall` is called once more than `stall_bytes` wait for the client.

    Whoever writes to `stream` itself, past `send`, does so only while it is `flowing`, which `on_hold` says the end of,
    and has it `breathe` now and then.
    """

    def __init__(
        self,
        request: Request,
        stall_bytes: int,
        on_stall: Callable[[InferenceError], None],
        on_hold: Callable[[], None] | None = None,
    ) -> None:
        self.stream: Stream | None = None
        self._request = request
        self._stall_bytes = stall_bytes
        self._on_stall = on_stall
        self._on_hold = on_hold
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._unchecked_bytes = 0
        self._last = False
        self._drain: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        """Tell whether the head has left, so that a failure can only be told within the stream."""
        return self.stream is not None

    @property
    def flowing(self) -> bool:
        """Tell whether events go straight to the client."""
        return self._drain is None

    def begin(self, headers: Headers) -> None:
        """Begin the stream; its head leaves with the first events."""
        self.stream = self._request.stream(200, [*headers, (b"cache-control", b"no-cache")])

    def send(self, events: bytes, *, last: bool = False) -> None:
        """Send events in their order; the last ones end the stream."""
        self._last = self._last or last
        if self._drain is None:
            self._out(events)
            return
        if not events:
            return
        self._held.append(events)
        self._held_bytes += len(events)
        if self._held_bytes > self._stall_bytes and not self._last:
            words = f"the client reads too slowly: {self._held_bytes} bytes wait for it"
            self._on_stall(Overloaded(words, hint="read faster"))

    def breathe(self) -> None:
        """Hold what comes next until the client has taken enough of what was written."""
        if self._drain is None and self.stream is not None:
            self._unchecked_bytes = 0
            self._drain = asyncio.get_running_loop().create_task(self._until_taken(self.stream))
            if self._on_hold is not None:
                self._on_hold()

    def end(self, events: bytes) -> None:
        """Send these in place of whatever waits, and end the stream."""
        self._held.clear()
        if self.stream is not None:
            self.stream.end(events)

    def _out(self, events: bytes) -> None:
        assert self.stream is not None
        if self._last:
            self.stream.end(events)
        elif events:
            self.stream.write(events)
            self._unchecked_bytes += len(events)
            if self._unchecked_bytes >= _BYTES_A_BREATH:
                self.breathe()

    async def _until_taken(self, stream: Stream) -> None:
        await stream.drain()
        self._drain = None
        held, self._held, self._held_bytes = b"".join(self._held), [], 0
        if held or self._last:
            self._out(held)
