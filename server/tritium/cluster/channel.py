"""A stream of frames over a socket: cut by their length, decoded by type, handed on by a plain call."""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from tritium.cluster.frames import LENGTH_BYTES, MAX_FRAME_BYTES

Frame = TypeVar("Frame")

UNSENDABLE = (OverflowError, TypeError, UnicodeError, RecursionError)
"""What `Channel.send` raises of a frame that cannot be written: it holds what came from a client, as it came."""


class Channel(asyncio.Protocol, Generic[Frame]):
    """One end of a connection.

    `on_frame` is called for each frame in order; `on_close` once, with the reason when it is not the peer's plain
    end. What is sent after the end is dropped: the owner learns of it by `on_close`.
    """

    def __init__(
        self,
        frames: Any,
        on_frame: Callable[[Frame], None],
        on_close: Callable[[Exception | None], None],
    ) -> None:
        self._decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(frames)
        self._encoder = msgspec.msgpack.Encoder()
        self._on_frame = on_frame
        self._on_close = on_close
        self._parts: list[bytes] = []
        """The frame that has begun, as far as it has come."""
        self._missing = 0
        """How many bytes at least must come before there is a whole frame again."""
        self._out = bytearray()
        self._transport: asyncio.Transport | None = None
        self._fault: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not derive from asyncio.Transport, so no isinstance check can stand here.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, *frames: msgspec.Struct) -> None:
        """Send frames, with all others of this turn of the loop in one write.

        Raises:
            OverflowError, TypeError, UnicodeError, RecursionError: a frame is too large, or holds what cannot be
                written; those before it are sent.
        """
        if self._transport is None or self._transport.is_closing():
            return
        out = self._out
        if not out:
            asyncio.get_running_loop().call_soon(self._flush)
        for frame in frames:
            start = len(out)
            try:
                self._write(frame, out)
            except BaseException:
                del out[start:]
                raise

    @property
    def backlog_bytes(self) -> int:
        """Return how much of what was sent waits for the peer to read."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def abort(self) -> None:
        """End the connection at once; what is queued is lost."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Send what is queued, then end the connection."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Cut and decode every whole frame."""
        if self._missing:
            # A large frame comes in hundreds of parts: they are put together once, when the last is there.
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
            self._missing = 0
        view = memoryview(data)
        start, end = 0, len(data)
        while end - start >= LENGTH_BYTES:
            length = int.from_bytes(view[start : start + LENGTH_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                self._break(ValueError(_too_large(length)))
                return
            body = start + LENGTH_BYTES
            if end - body < length:
                self._missing = length - (end - body)
                break
            start = body + length
            try:
                frame = self._decoder.decode(view[body:start])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                self._break(error)
                return
            self._on_frame(frame)
        if start < end:
            self._parts.append(data[start:])
            self._missing = self._missing or LENGTH_BYTES - (end - start)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        self._transport = None
        self._on_close(self._fault or exc)

    def _write(self, frame: msgspec.Struct, out: bytearray) -> None:
        start = len(out)
        out += b"\0\0\0\0"
        self._encoder.encode_into(frame, out, start + LENGTH_BYTES)
        length = len(out) - start - LENGTH_BYTES
        if length > MAX_FRAME_BYTES:
            raise OverflowError(_too_large(length))
        out[start : start + LENGTH_BYTES] = length.to_bytes(LENGTH_BYTES, "big")

    def _flush(self) -> None:
        out, self._out = self._out, bytearray()
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(out)

    def _break(self, fault: Exception) -> None:
        self._fault = fault
        self._parts.clear()
        self._missing = 0
        assert self._transport is not None
        self._transport.abort()


def _too_large(length: int) -> str:
    return f"a frame of {length} bytes, more than {MAX_FRAME_BYTES}"
