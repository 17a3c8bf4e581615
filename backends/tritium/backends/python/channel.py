"""The server's end of the socket: what is posted within one turn of the event loop leaves as one frame."""

import asyncio
import socket
import threading
from collections.abc import Callable

import msgspec

from tritium.backends.python import frames
from tritium.backends.python.stream import Fatal, FrameReader

_DECODER: msgspec.msgpack.Decoder[list[frames.Up]] = msgspec.msgpack.Decoder(list[frames.Up])


class Channel:
    """Messages to and from one process. `extras` gives what should ride on every frame."""

    def __init__(
        self,
        sock: socket.socket,
        on_messages: Callable[[list[frames.Up]], None],
        on_end: Callable[[], None],
        extras: Callable[[], list[frames.Down]],
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._on_messages = on_messages
        self._on_end = on_end
        self._extras = extras
        self._reader = FrameReader(sock, _DECODER)
        self._encoder = msgspec.msgpack.Encoder()
        self._pending: list[frames.Down] = []
        self._armed = False
        self._unsent: list[memoryview] = []
        self._closed = False
        self.fatal = ""
        """What the process said where it could not speak in messages."""
        self._loop.add_reader(sock.fileno(), self._read)

    def post(self, message: frames.Down) -> None:
        """Send a message with this turn's frame."""
        self._pending.append(message)
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._end_of_turn)

    def post_now(self, message: frames.Down) -> None:
        """Send a message, and what waited for the end of the turn: a turn of the loop less, 3 µs where it is alone."""
        self._pending.append(message)
        self._flush()

    def wake(self) -> None:
        """Send a frame for the extras alone; from any thread."""
        if threading.get_ident() == self._thread_id:
            if not self._armed:
                self._armed = True
                self._loop.call_soon(self._end_of_turn)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._flush)

    def drain(self) -> None:
        """Take in what a process that has ended still said."""
        while not self._closed and self._read():
            pass

    def close(self) -> None:
        """Stop listening and close the socket."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()

    def _read(self) -> bool:
        try:
            messages = self._reader.read()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionResetError:
            messages = None
        except Fatal as fatal:
            self.fatal = str(fatal)
            messages = None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.fatal = f"the process wrote into its own socket what is no message: {error}"
            messages = None
        if messages is None:
            self._loop.remove_reader(self._socket.fileno())
            self._on_end()
            return False
        self._on_messages(messages)
        return not self._closed

    def _end_of_turn(self) -> None:
        self._armed = False
        self._flush()

    def _flush(self) -> None:
        if self._closed:
            return
        batch = self._pending + self._extras()
        if not batch:
            return
        self._pending = []
        frame = bytearray(frames.LENGTH.size)
        self._encoder.encode_into(batch, frame, frames.LENGTH.size)
        frames.LENGTH.pack_into(frame, 0, len(frame) - frames.LENGTH.size)
        if self._unsent:
            self._unsent.append(memoryview(frame))
            return
        sent = self._send(frame)
        if sent < len(frame):
            self._unsent.append(memoryview(frame)[sent:])
            self._loop.add_writer(self._socket.fileno(), self._write)

    def _send(self, data: bytearray | memoryview) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except (BrokenPipeError, ConnectionResetError):
            # What was not sent was not begun; the loss of the process is told elsewhere.
            return len(data)

    def _write(self) -> None:
        while self._unsent:
            sent = self._send(self._unsent[0])
            if sent < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][sent:]
                return
            del self._unsent[0]
        self._loop.remove_writer(self._socket.fileno())
