"""The process's end of the socket, shared by all its threads without a thread of its own.

Whoever waits for something reads for everybody: it takes the reader's place, hands out what arrives, and gives the
place up when its own thing has come. So an idle process sleeps in one `recv`, an execution starts on the thread
that received it, and a model that asks another model in the middle of `execute` reads the answer itself.
"""

import os
import socket
import threading
from collections import deque
from collections.abc import Callable

import msgspec

from tritium.backends.python import frames
from tritium.backends.python.process.unsendable import fault, refusal, replacement
from tritium.backends.python.stream import FrameReader


class Pump:
    """Reads and writes messages.

    Tasks are for the main thread; the rest go to `dispatch`, on the thread that reads, which must not wait there.
    `extras` gives what should ride on every frame.
    """

    def __init__(
        self,
        sock: socket.socket,
        dispatch: Callable[
            [frames.Answer | frames.Outcome | frames.Cancel | frames.Hold | frames.Grown | frames.Freed], None
        ],
        extras: Callable[[], list[frames.Up]],
    ) -> None:
        self._socket = sock
        self._dispatch = dispatch
        self._reader = FrameReader(sock, msgspec.msgpack.Decoder(list[frames.Down]))
        # Entered as a lock, which unlike a condition is not Python; nobody waits where the model has one thread.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        self._reading = False
        self._tasks: deque[frames.Task] = deque()
        self._encoder = msgspec.msgpack.Encoder()
        self._frame = bytearray()
        self._outbox: deque[frames.Up] = deque()
        self._sending = threading.Lock()
        self._extras = extras
        self._watching: set[object] = set()
        self._watcher: threading.Thread | None = None
        self._forked = False
        os.register_at_fork(after_in_child=self._disown)

    def next(self) -> frames.Task:
        """Wait for the next task of the main thread."""
        if not self._tasks:
            self.wait(lambda: bool(self._tasks))
        return self._tasks.popleft()

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until `done()`, which is asked after every arrival."""
        with self._lock:
            while not done():
                if self._reading:
                    self._waiting += 1
                    self._changed.wait()
                    self._waiting -= 1
                    continue
                self._reading = True
                self._lock.release()
                try:
                    arrived = self._reader.read()
                finally:
                    self._lock.acquire()
                    self._reading = False
                self._take(arrived)

    def poll(self) -> None:
        """Take what has arrived, without waiting."""
        with self._lock:
            if self._reading:
                return
            try:
                self._take(self._reader.read(socket.MSG_DONTWAIT))
            except BlockingIOError:
                return

    def watch(self, what: object) -> None:
        """See that messages are read until `unwatch(what)`, even when no thread of the model waits here."""
        with self._lock:
            self._watching.add(what)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="tritium-reader", daemon=True)
                self._watcher.start()
            self._changed.notify_all()

    def unwatch(self, what: object) -> None:
        """Undo `watch`."""
        self._watching.discard(what)

    def add(self, message: frames.Up) -> None:
        """Queue a message until the next `flush`."""
        self._outbox.append(message)

    def post(self, message: frames.Up) -> None:
        """Send a message now."""
        self._outbox.append(message)
        self.flush()

    def flush(self) -> None:
        """Write everything queued as one frame.

        A thread that finds another one writing leaves its messages to that one. So this may be called anywhere, even
        by a finalizer that runs in the middle of another flush.
        """
        while not self._forked:
            if not self._sending.acquire(blocking=False):
                return
            try:
                batch: list[frames.Up] = []
                while self._outbox:
                    batch.append(self._outbox.popleft())
                batch += self._extras()
                if batch:
                    try:
                        self._encoder.encode_into(batch, self._frame, frames.LENGTH.size)
                    except (UnicodeError, OverflowError, TypeError, ValueError):
                        self._encoder.encode_into(self._sendable(batch), self._frame, frames.LENGTH.size)
                    frames.LENGTH.pack_into(self._frame, 0, len(self._frame) - frames.LENGTH.size)
                    self._socket.sendall(self._frame)
            finally:
                self._sending.release()
            if not self._outbox:
                return

    def _sendable(self, batch: list[frames.Up]) -> list[frames.Up]:
        """Put something in the place of messages that cannot be sent."""
        sendable: list[frames.Up] = []
        for message in batch:
            why = fault(message)
            sendable.append(replacement(message, why) if why else message)
            if why and (told := refusal(message, why)) is not None:
                with self._lock:
                    self._dispatch(told)
                    self._changed.notify_all()
        return sendable

    def _disown(self) -> None:
        """Keep a fork of this process, as the model may make, from speaking in its name."""
        self._forked = True
        self._socket.close()

    def _take(self, arrived: list[frames.Down] | None) -> None:
        if arrived is None:
            # The server is gone, and with it everyone who would want an answer.
            os._exit(1)
        for message in arrived:
            if type(message) is frames.Execute or isinstance(message, frames.Task):  # a union is slow to ask
                self._tasks.append(message)
            else:
                self._dispatch(message)
        if self._waiting:
            self._changed.notify_all()

    def _watch(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(lambda: bool(self._watching))
            self.wait(lambda: not self._watching)
