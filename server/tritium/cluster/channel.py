"""A stream of frames over a socket: cut by their length, decoded by type, handed on by a plain call."""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from tritium.cluster.frames import LENGTH_BYTES, MAX_FRAME_BYTES

Frame = TypeVar("Frame")


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
        self._rest = b""
        self._out = bytearray()
        self._transport: asyncio.Transport | None = None
        self._fault: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not derive from asyncio.Transport, so no isinstance check can stand here.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, *frames: msgspec.Struct) -> None:
        """Send frames, with all others of this turn of the loop in one write."""
        if self._transport is None or self._transport.is_closing():
            return
        out = self._out
        if not out:
            asyncio.get_running_loop().call_soon(self._flush)
        for frame in frames:
            start = len(out)
            out += b"\0\0\0\0"
            try:
                self._encoder.encode_into(frame, out, start + LENGTH_BYTES)
            except BaseException:
                del out[start:]
                raise
            out[start : start + LENGTH_BYTES] = (len(out) - start - LENGTH_BYTES).to_bytes(LENGTH_BYTES, "big")

    def close(self) -> None:
        """Send what is queued, then end the connection."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Cut and decode every whole frame."""
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        start, end = 0, len(data)
        while end - start >= LENGTH_BYTES:
            length = int.from_bytes(view[start : start + LENGTH_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                self._break(ValueError(f"a frame of {length} bytes, more than {MAX_FRAME_BYTES}"))
                return
            body = start + LENGTH_BYTES
            if end - body < length:
                break
            start = body + length
            try:
                frame = self._decoder.decode(view[body:start])
            except msgspec.DecodeError as error:
                self._break(error)
                return
            self._on_frame(frame)
        self._rest = data[start:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        self._transport = None
        self._on_close(self._fault or exc)

    def _flush(self) -> None:
        out, self._out = self._out, bytearray()
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(out)

    def _break(self, fault: Exception) -> None:
        self._fault = fault
        self._rest = b""
        assert self._transport is not None
        self._transport.abort()
