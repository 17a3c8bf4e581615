"""Messages between a model and the server where both are one process: calls on the event loop, and one lock.

What a model says on the loop is heard at once; from another thread, all that it has said wakes the loop once. What
the server says is taken in on the loop, so a thread of the model that waits has nothing to read, only to be woken.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from tritium.backends.python import frames
from tritium.compat.pb_utils import TritonModelException


class LocalPump:
    """See `process.link.Pump`. `deliver` gets the model's messages, on the loop that made this."""

    def __init__(self, deliver: Callable[[frames.Up], None]) -> None:
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._outbox: deque[frames.Up] = deque()
        self._armed = False
        self._changed = threading.Condition()
        self._closed = False

    def dispatch(self, take: Callable[[], None]) -> None:
        """Take a message of the server in, and wake who waits for it; on the loop."""
        with self._changed:
            take()
            self._changed.notify_all()

    def close(self) -> None:
        """Wake everybody: nothing will come any more."""
        self._closed = True
        with self._changed:
            self._changed.notify_all()

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until `done()`, which is asked after every arrival.

        Raises:
            TritonModelException: on the event loop, which would wait for itself, and once the model is unloaded.
        """
        if done():
            return
        if threading.get_ident() == self._thread:
            raise TritonModelException(
                "a model that runs in the server's event loop (EXECUTION_MODE inline) cannot wait for the server; "
                "EXECUTION_MODE in_process gives it a thread"
            )
        with self._changed:
            self._changed.wait_for(lambda: self._closed or done())
        if not done():
            raise TritonModelException("the model was unloaded while it waited for the server")

    def poll(self) -> None:
        """Do nothing: what there is has been taken in."""

    def watch(self, what: object) -> None:
        """Do nothing: messages arrive without anybody's help."""

    def unwatch(self, what: object) -> None:
        """Do nothing."""

    def add(self, message: frames.Up) -> None:
        """Queue a message until the next `flush`."""
        self._outbox.append(message)

    def post(self, message: frames.Up) -> None:
        """Send a message now."""
        self._outbox.append(message)
        self.flush()

    def flush(self) -> None:
        """Let the server hear what is queued."""
        if threading.get_ident() == self._thread:
            self._hear()
        elif not self._armed and not self._loop.is_closed():
            self._armed = True
            self._loop.call_soon_threadsafe(self._hear)

    def _hear(self) -> None:
        # Before looking: what is queued from now on wakes the loop again.
        self._armed = False
        while self._outbox:
            self._deliver(self._outbox.popleft())
