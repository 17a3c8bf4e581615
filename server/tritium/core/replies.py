"""The two ways protocol code waits for a reply: for exactly one response, or for a stream of them."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final

from tritium.core.errors import InferenceError, Internal, Overloaded
from tritium.core.request import InferResponse

UNREAD_BYTES: Final = 64 << 20
"""How much of a stream may wait for its client for longer than CATCH_UP_S."""
CATCH_UP_S: Final = 5.0
MOST_UNREAD_BYTES: Final = 1 << 30
"""How much may wait at all."""
ITEM_BYTES: Final = 1024
"""What a waiting response costs beside its tensors."""


class SingleReply:
    """A reply that is one response: await it, or its `future`. None, or more than one, is an error in Triton's words.

    Awaited outside of a task it yields itself: whoever drives the coroutine is called back by `on_ready`.
    """

    __slots__ = ("_count", "_future", "_loop", "_on_ready", "_outcome", "_response", "_settled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[InferResponse] | None = None
        self._on_ready: Callable[[], None] | None = None
        self._response: InferResponse | None = None
        self._count = 0
        self._outcome: InferResponse | InferenceError | None = None
        self._settled = False

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Settle at the final response; an error settles it at once."""
        if self._settled:
            return
        if isinstance(response, InferenceError):
            self._settle(response)
            return
        if response is not None:
            self._count += 1
            self._response = response
        if not final:
            return
        if self._response is None or self._count > 1:
            self._settle(Internal(f"expected a single response, got {self._count}"))
        else:
            self._settle(self._response)

    def _settle(self, outcome: InferResponse | InferenceError) -> None:
        self._settled = True
        self._outcome = outcome
        if self._future is not None:
            _resolve(self._future, outcome)
        if self._on_ready is not None:
            self._on_ready()

    @property
    def future(self) -> "asyncio.Future[InferResponse]":
        """Return a future of the response."""
        if self._future is None:
            self._future = self._loop.create_future()
            if self._outcome is not None:
                _resolve(self._future, self._outcome)
        return self._future

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Call back once when there is an outcome."""
        self._on_ready = callback

    def __await__(self) -> Generator[Any, None, InferResponse]:
        """Wait for the response.

        Raises:
            InferenceError: it came in the response's place.
        """
        if not self._settled:
            if asyncio.current_task() is not None:
                return (yield from self.future)
            yield self
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, InferResponse):
            return outcome
        assert outcome is not None
        try:
            raise outcome
        finally:
            del outcome  # its traceback holds this frame


def _resolve(future: "asyncio.Future[InferResponse]", outcome: InferResponse | InferenceError) -> None:
    if future.done():
        return
    if isinstance(outcome, InferenceError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


class Patience:
    """What is borne of a client that reads slowly: a model cannot be told to wait for it."""

    __slots__ = ("_behind_since_s",)

    def __init__(self) -> None:
        self._behind_since_s = 0.0

    def check(self, unread_bytes: int) -> None:
        """Look at how much waits now.

        Raises:
            Overloaded: too much, or for too long.
        """
        if unread_bytes <= UNREAD_BYTES:
            self._behind_since_s = 0.0
            return
        now_s = time.monotonic()
        self._behind_since_s = self._behind_since_s or now_s
        if unread_bytes > MOST_UNREAD_BYTES or now_s - self._behind_since_s > CATCH_UP_S:
            raise Overloaded(
                f"the client reads too slowly: {unread_bytes} bytes of responses wait for it",
                hint="read while the model sends",
            )


class StreamReply:
    """A reply that is any number of responses: iterate it. Errors come as items, for they may be followed by more.

    When Patience with its client ends, an error takes the place of what waits, and `on_stalled` is called.
    """

    def __init__(self, on_stalled: Callable[[], None] | None = None) -> None:
        self._items: deque[InferResponse | InferenceError] = deque()
        self._unread_bytes = 0
        self._patience = Patience()
        self._on_stalled = on_stalled
        self._final = False
        self._wake = asyncio.Event()

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Queue one response for the iterator."""
        if self._final:
            return
        self._final = final
        if response is not None:
            self._items.append(response)
            self._unread_bytes += _size(response)
            try:
                self._patience.check(self._unread_bytes)
            except Overloaded as error:
                self._stall(error)
        self._wake.set()

    @property
    def refusal(self) -> InferenceError | None:
        """Return the error that has settled the request already, before anything of it could run."""
        first = self._items[0] if self._final and len(self._items) == 1 else None
        return first if isinstance(first, InferenceError) else None

    def __aiter__(self) -> "StreamReply":
        """Iterate until the final response has been taken."""
        return self

    async def __anext__(self) -> InferResponse | InferenceError:
        """Return the next response, when there is one."""
        while not self._items:
            if self._final:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        item = self._items.popleft()
        self._unread_bytes -= _size(item)
        return item

    def _stall(self, error: Overloaded) -> None:
        self._items.clear()
        self._items.append(error)
        self._unread_bytes = _size(error)
        self._final = True
        if self._on_stalled is not None:
            self._on_stalled()


def _size(item: InferResponse | InferenceError) -> int:
    tensors = () if isinstance(item, InferenceError) else item.outputs
    return ITEM_BYTES + sum(tensor.size_bytes for tensor in tensors)
