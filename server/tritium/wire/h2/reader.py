"""Cuts what a connection receives into frames, without waiting for the end of a DATA frame.

    PREFACE --24 bytes--> FRAME --DATA that is not all here--> INSIDE DATA --> FRAME
                            ^                                       |
                            +------------- padding <---------------+

All connections of a listener read into the same scratch memory; what a frame lacks is kept aside as `tail` and put in
front of the next read. A long DATA frame is read straight into the message it belongs to.
"""

from typing import Protocol

from tritium.wire.h2.frames import (
    END_STREAM,
    FRAME_HEAD,
    HEAD_BYTES,
    PADDED,
    PREFACE,
    STREAM_MASK,
    Code,
    ConnectionFault,
    Kind,
)

DATA = int(Kind.DATA)  # read once a frame: a plain int is found faster than an enum's member
DIRECT_BYTES = 16 << 10
"""Less than this is not worth a read of its own: it would miss the frames behind it."""


class FrameSink(Protocol):
    """Who takes the frames. `held` is what a DATA frame takes of the windows, padding included, told with its start."""

    def on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take any frame but DATA, whole."""
        ...

    def on_data(self, stream_id: int, piece: memoryview, held: int, *, last: bool) -> None:
        """Take a piece of DATA, valid during the call; `last` ends the stream."""
        ...

    def vacancy(self, stream_id: int) -> memoryview | None:
        """Offer memory for the DATA that comes next, if the stream knows where it goes."""
        ...

    def on_filled(self, stream_id: int, size: int, *, last: bool) -> None:
        """Note that the first `size` bytes of the vacancy were filled; their frame's start was on_data's."""
        ...


class FrameReader:
    """The receiving half of a connection."""

    __slots__ = (
        "_data_held",
        "_data_last",
        "_data_left",
        "_data_stream",
        "_direct",
        "_pad_left",
        "_preface_left",
        "_scratch",
        "_sink",
        "_tail",
        "data_limit",
        "frame_limit",
    )

    def __init__(self, sink: FrameSink, scratch: memoryview, *, data_limit: int, frame_limit: int) -> None:
        """Limits are in bytes of payload; `frame_limit` is for everything but DATA and must fit into the scratch."""
        assert frame_limit + HEAD_BYTES + DIRECT_BYTES <= len(scratch)
        self._sink: FrameSink | None = sink
        """None once the connection is lost: in a circle with this, both would wait for the garbage collector."""
        self._scratch = scratch
        self._tail = b""
        self._preface_left = PREFACE
        self._data_stream = 0
        self._data_left = 0
        self._data_last = False
        self._data_held = 0
        self._pad_left = 0
        self._direct: memoryview | None = None
        self.data_limit = data_limit
        self.frame_limit = frame_limit

    def leave(self) -> None:
        """Let go of the connection, which is lost."""
        self._sink = None

    @property
    def greeted(self) -> bool:
        """Tell whether the client's preface is in."""
        return not self._preface_left

    def offer(self) -> memoryview:
        """Return the memory that the next read goes into."""
        sink = self._sink
        if self._data_left >= DIRECT_BYTES and not self._data_held and sink is not None:
            memory = sink.vacancy(self._data_stream)
            if memory is not None and len(memory) >= DIRECT_BYTES:
                self._direct = memory[: self._data_left]
                return self._direct
        tail = self._tail
        if not tail:
            return self._scratch
        self._scratch[: len(tail)] = tail
        return self._scratch[len(tail) :]

    def advance(self, size: int) -> None:
        """Take the `size` bytes that were read into the memory offered last.

        Raises:
            ConnectionFault: The peer does not keep to HTTP/2.
        """
        sink = self._sink
        if sink is None:
            return
        if self._direct is not None:
            self._direct = None
            self._data_left -= size
            sink.on_filled(self._data_stream, size, last=self._data_last and not self._data_left)
            return
        end = size + len(self._tail)
        self._tail = b""
        start = self._cut(sink, self._scratch, end)
        if start < end:
            self._tail = bytes(self._scratch[start:end])

    def _cut(self, sink: FrameSink, view: memoryview, end: int) -> int:
        """Hand out every frame of view[:end]; return where the first incomplete one starts."""
        at = 0
        if self._preface_left:
            at = self._greet(bytes(view[: min(end, len(self._preface_left))]))
            if self._preface_left:
                return end
        while True:
            if self._data_left:
                size = min(self._data_left, end - at)
                if not size:
                    return at
                self._data_left -= size
                held, self._data_held = self._data_held, 0
                last = self._data_last and not self._data_left
                sink.on_data(self._data_stream, view[at : at + size], held, last=last)
                at += size
            if self._pad_left:
                size = min(self._pad_left, end - at)
                self._pad_left -= size
                at += size
            body = at + HEAD_BYTES
            if body > end:
                return at
            high, low, kind, flags, stream_id = FRAME_HEAD.unpack_from(view, at)
            length = high << 8 | low
            stream_id &= STREAM_MASK
            if kind == DATA:
                if length > self.data_limit:
                    raise ConnectionFault(
                        Code.FRAME_SIZE_ERROR, f"DATA of {length} bytes; {self.data_limit} are agreed"
                    )
                if not flags & PADDED and body + length <= end:
                    at = body + length
                    sink.on_data(stream_id, view[body:at], length, last=bool(flags & END_STREAM))
                    continue
                at = self._begin_data(sink, view, body, end, length, flags, stream_id)
                if at < 0:
                    return body - HEAD_BYTES
                continue
            if length > self.frame_limit:
                code = Code.FRAME_SIZE_ERROR if length > self.data_limit else Code.ENHANCE_YOUR_CALM
                raise ConnectionFault(code, f"frame of type {kind} and {length} bytes; {self.frame_limit} are taken")
            if body + length > end:
                return at
            at = body + length
            sink.on_frame(kind, flags, stream_id, bytes(view[body:at]))

    def _begin_data(
        self, sink: FrameSink, view: memoryview, body: int, end: int, length: int, flags: int, stream_id: int
    ) -> int:
        """Enter a DATA frame that is padded or not all here; return where its data starts, -1 if that is not known."""
        pad = 0
        if flags & PADDED:
            if body >= end and length:
                return -1
            if not length or view[body] >= length:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA with more padding than payload")
            pad = view[body] + 1
            body += 1
        self._data_stream = stream_id
        self._data_held = length
        self._data_left = length - pad
        self._data_last = bool(flags & END_STREAM)
        self._pad_left = max(pad - 1, 0)
        if not self._data_left:
            self._data_held = 0
            sink.on_data(stream_id, view[body:body], length, last=self._data_last)
        return body

    def _greet(self, start: bytes) -> int:
        """Match the client's preface; return how much of the read it took."""
        expected = self._preface_left
        if not expected.startswith(start):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "not HTTP/2")
        self._preface_left = expected[len(start) :]
        return len(start)
