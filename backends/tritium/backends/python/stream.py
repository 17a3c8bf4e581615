"""Frames off a socket: one read gives every message that has arrived whole."""

import socket
from typing import Generic, TypeVar

import msgspec

from tritium.backends.python.frames import FATAL, LENGTH

READ_BYTES = 256 << 10
KEEP_BYTES = 4 << 20
"""A buffer that one long frame made longer than this is given up after it."""

Message = TypeVar("Message")


class Fatal(Exception):
    """The other side ended before it could speak in messages; the text says why."""


class FrameReader(Generic[Message]):
    """Reads frames; the caller decides whether the socket blocks."""

    def __init__(self, sock: socket.socket, decoder: msgspec.msgpack.Decoder[list[Message]]) -> None:
        self._socket = sock
        self._decode = decoder.decode
        self._buffer = bytearray(READ_BYTES)
        self._filled = 0

    def read(self, flags: int = 0) -> list[Message] | None:
        """Read once; return the messages completed by it, None at the end of the stream.

        Raises:
            BlockingIOError: nothing has arrived and the socket, or `flags`, would not wait.
            Fatal: the other side wrote plain text.
        """
        with memoryview(self._buffer) as view:
            got = self._socket.recv_into(view[self._filled :] if self._filled else view, 0, flags)
            if not got:
                return None
            self._filled += got
            if LENGTH.unpack_from(view)[0] == self._filled - LENGTH.size and view[LENGTH.size] != FATAL[0]:
                messages = self._decode(view[LENGTH.size : self._filled])  # one frame, as nearly all reads bring
                self._filled = 0
            else:
                messages, at = self._cut(view)
                if at:
                    view[: self._filled - at] = view[at : self._filled]
                    self._filled -= at
        if self._filled >= LENGTH.size:
            needed = LENGTH.unpack_from(self._buffer)[0] + LENGTH.size
            if needed > len(self._buffer):
                self._buffer.extend(bytes(needed - len(self._buffer)))
        elif not self._filled and len(self._buffer) > KEEP_BYTES:
            self._buffer = bytearray(READ_BYTES)
        return messages

    def _cut(self, view: memoryview) -> tuple[list[Message], int]:
        messages: list[Message] = []
        at = 0
        while self._filled - at >= LENGTH.size:
            start = at + LENGTH.size
            end = start + LENGTH.unpack_from(view, at)[0]
            if end > self._filled:
                break
            if view[start:end][:1] == FATAL:
                raise Fatal(str(view[start + 1 : end], "utf-8", "replace"))
            decoded = self._decode(view[start:end])
            if messages:
                messages += decoded
            else:
                messages = decoded
            at = end
        return messages, at
