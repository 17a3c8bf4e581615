"""What we may still send: messages leave as far as the peer's windows and its reading allow, the rest waits here.

The usual answer fits and leaves with the turn, headers, message and trailers together. When it does not fit, each
waiting stream gets its turn of one frame or a few, so that a large answer cannot starve the small ones.
"""

from collections import deque
from collections.abc import Callable, Sequence

from tritium.wire.gate import Gate
from tritium.wire.grpc import Reply
from tritium.wire.h2.batch import Batch
from tritium.wire.h2.frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    MOST_WINDOW,
    Code,
    ConnectionFault,
    Kind,
    StreamFault,
    pack_head,
)
from tritium.wire.h2.outlet import Outlet
from tritium.wire.h2.replies import INITIAL, literal
from tritium.wire.http import Buffer

TURN_BYTES = 128 << 10
HIGH_BYTES = 256 << 10
LOW_BYTES = 64 << 10

_HEADERS = int(Kind.HEADERS)
_DATA = int(Kind.DATA)
_INITIAL_HEAD = pack_head(len(INITIAL), _HEADERS, END_HEADERS, 0)[:5]


class Outbox:
    """The sending side of one connection; `on_ended` is told of each outlet whose last frame has left."""

    __slots__ = (
        "_batch",
        "_on_ended",
        "frame_bytes",
        "gate",
        "initial_window",
        "pending_bytes",
        "waiting",
        "window",
    )

    def __init__(self, batch: Batch, gate: Gate, on_ended: Callable[[int], None]) -> None:
        self._batch = batch
        self._on_ended: Callable[[int], None] | None = on_ended
        """None once the connection is lost: it would be in a circle with this."""
        self.gate = gate
        self.window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.frame_bytes = DEFAULT_FRAME_BYTES
        self.pending_bytes = 0
        self.waiting: dict[int, Outlet] = {}

    def leave(self) -> None:
        """Let go of the connection, which is lost and has dropped its outlets."""
        self._on_ended = None

    def open(self, stream_id: int) -> Outlet:
        """Begin to send on a stream."""
        return Outlet(stream_id, self.initial_window)

    def control(self, frame: bytes) -> None:
        """Send a frame that no window holds back."""
        self._batch.add((frame,), len(frame))

    def flush(self) -> None:
        """Do not wait for the end of the turn."""
        self._batch.flush()

    def announce(self, outlet: Outlet, encoding: bytes) -> None:
        """Send response headers that name the encoding of what follows, unless headers have left."""
        if not outlet.begun:
            outlet.begun = True
            block = INITIAL + literal(b"grpc-encoding", encoding)
            self.control(pack_head(len(block), _HEADERS, END_HEADERS, outlet.stream_id) + block)

    def send(self, outlet: Outlet, message: Reply, trailers: bytes | None = None, *, flag: bytes = b"\0") -> None:
        """Send a message; `trailers`, when given, end the stream after it; `flag` tells whether it is compressed."""
        parts: Sequence[Buffer] = (message,) if isinstance(message, (bytes, memoryview)) else message
        size = 0
        for part in parts:
            size += part.nbytes if isinstance(part, memoryview) else len(part)
        framed = size + 5
        prefix = flag + size.to_bytes(4, "big")
        if (
            framed <= self.frame_bytes
            and framed <= outlet.window
            and framed <= self.window
            and not outlet.pending_bytes
            and not self.gate.shut
        ):
            self._send_whole(outlet, framed, (prefix, *parts), trailers)
            return
        if outlet.pending is None:
            outlet.pending = deque()
        outlet.pending.append(memoryview(prefix))
        outlet.pending.extend(memoryview(part).cast("B") for part in parts if len(part))
        outlet.pending_bytes += framed
        outlet.trailers = trailers
        self.pending_bytes += framed
        self.waiting[outlet.stream_id] = outlet
        self.pump()
        if outlet.pending_bytes > HIGH_BYTES:
            outlet.gate = outlet.gate or Gate()
            outlet.gate.close()

    def _send_whole(self, outlet: Outlet, framed: int, parts: Sequence[Buffer], trailers: bytes | None) -> None:
        stream = outlet.stream_id
        outlet.window -= framed
        self.window -= framed
        end = b""
        if trailers is not None:
            end = FRAME_HEAD.pack(0, len(trailers), _HEADERS, END_HEADERS | END_STREAM, stream) + trailers
        head = self.begin(outlet) + FRAME_HEAD.pack(framed >> 8, framed & 0xFF, _DATA, 0, stream)
        self._batch.add((head, *parts, end), len(head) + framed + len(end))
        if trailers is not None:
            self._end(outlet)

    def finish(self, outlet: Outlet, trailers: bytes) -> None:
        """End the stream with trailers, after whatever is pending."""
        if outlet.pending_bytes:
            outlet.trailers = trailers
            return
        self.control(self._trailers(outlet, trailers))
        self._end(outlet)

    def refuse(self, outlet: Outlet, block: bytes) -> None:
        """End a stream that has sent nothing with one header block."""
        outlet.begun = True
        self.control(pack_head(len(block), _HEADERS, END_HEADERS | END_STREAM, outlet.stream_id) + block)
        self._end(outlet)

    def begin(self, outlet: Outlet) -> bytes:
        """Frame the response headers, unless they have left."""
        if outlet.begun:
            return b""
        outlet.begun = True
        return _INITIAL_HEAD + outlet.stream_id.to_bytes(4, "big") + INITIAL

    def _trailers(self, outlet: Outlet, trailers: bytes) -> bytes:
        head = pack_head(len(trailers), _HEADERS, END_HEADERS | END_STREAM, outlet.stream_id)
        return self.begin(outlet) + head + trailers

    def drop(self, outlet: Outlet) -> None:
        """Forget what is pending: the stream was reset."""
        self.waiting.pop(outlet.stream_id, None)
        self.pending_bytes -= outlet.pending_bytes
        outlet.pending = None
        outlet.pending_bytes = 0
        outlet.closed = True
        if outlet.gate is not None:
            outlet.gate.open()

    def _end(self, outlet: Outlet) -> None:
        outlet.closed = True
        on_ended = self._on_ended
        if on_ended is not None:
            on_ended(outlet.stream_id)

    # windows

    def widen(self, credit: int) -> None:
        """Take a WINDOW_UPDATE of the connection.

        Raises:
            ConnectionFault: The window grew beyond what HTTP/2 allows.
        """
        was_closed = self.window <= 0
        self.window += credit
        if self.window > MOST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the connection's window overflows")
        if was_closed:  # otherwise all who wait, wait for windows of their own
            self.pump()

    def widen_stream(self, outlet: Outlet, credit: int) -> None:
        """Take a WINDOW_UPDATE of a stream.

        Raises:
            StreamFault: The window grew beyond what HTTP/2 allows.
        """
        outlet.window += credit
        if outlet.window > MOST_WINDOW:
            raise StreamFault(outlet.stream_id, Code.FLOW_CONTROL_ERROR, "the stream's window overflows")
        if outlet.pending_bytes:
            self._serve((outlet,))

    def resize(self, initial_window: int, outlets: Sequence[Outlet]) -> None:
        """Take a new SETTINGS_INITIAL_WINDOW_SIZE, which applies to open streams, too (RFC 9113, 6.9.2).

        Raises:
            ConnectionFault: The window of a stream grew beyond what HTTP/2 allows.
        """
        change = initial_window - self.initial_window
        self.initial_window = initial_window
        for outlet in outlets:
            outlet.window += change
            if outlet.window > MOST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a stream's window overflows")
        if self.waiting:
            self.pump()

    def stalled(self, now: float, limit_s: float) -> list[int]:
        """Name the streams whose answer is complete but has not moved for `limit_s`."""
        found: list[int] = []
        for outlet in self.waiting.values():
            if outlet.pending_bytes != outlet.stalled_at:
                outlet.stalled_at = outlet.pending_bytes
                outlet.stalled_since = now
            elif limit_s and outlet.trailers is not None and now - outlet.stalled_since > limit_s:
                found.append(outlet.stream_id)
        return found

    def pump(self) -> None:
        """Send what may leave, a turn for each waiting stream, until windows or the socket are full."""
        self._serve(tuple(self.waiting.values()))

    def _serve(self, outlets: Sequence[Outlet]) -> None:
        while outlets:
            left = []
            for outlet in outlets:
                if outlet.window > 0 and self.window > 0 and not self.gate.shut:
                    self._turn(outlet)
                    if outlet.pending_bytes:
                        left.append(outlet)
            outlets = left

    def _turn(self, outlet: Outlet) -> None:
        """Send frames of one stream, up to TURN_BYTES, in one write."""
        buffers: list[Buffer] = []
        begin = self.begin(outlet)
        if begin:
            buffers.append(begin)
        room = min(TURN_BYTES, outlet.window, self.window, outlet.pending_bytes)
        outlet.window -= room
        self.window -= room
        outlet.pending_bytes -= room
        self.pending_bytes -= room
        pending = outlet.pending
        assert pending is not None
        while room:
            frame = min(room, self.frame_bytes)
            room -= frame
            buffers.append(pack_head(frame, _DATA, 0, outlet.stream_id))
            while frame:
                part = pending[0]
                if len(part) <= frame:
                    buffers.append(pending.popleft())
                    frame -= len(part)
                else:
                    buffers.append(part[:frame])
                    pending[0] = part[frame:]
                    frame = 0
        ended = not pending
        del self.waiting[outlet.stream_id]
        if not ended:
            self.waiting[outlet.stream_id] = outlet  # behind the others, wherever the windows close
        elif outlet.trailers is not None:
            buffers.append(self._trailers(outlet, outlet.trailers))
        self._batch.add(buffers, sum(map(len, buffers)))
        if ended and outlet.trailers is not None:
            self._end(outlet)
        if outlet.gate is not None and outlet.pending_bytes < LOW_BYTES:
            outlet.gate.open()
