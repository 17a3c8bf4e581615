"""The two ways protocol code waits for a reply: for exactly one response, or for a stream of them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from tritium.core.errors import InferenceError, Unsupported
from tritium.core.request import InferResponse


class SingleReply:
    """A reply that is one response; await `future`. More than one response is the caller's to refuse."""

    __slots__ = ("_response", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[InferResponse] = loop.create_future()
        self._response: InferResponse | None = None

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Resolve the future at the final response; an error resolves it at once."""
        if self.future.done():
            return
        if isinstance(response, InferenceError):
            self.future.set_exception(response)
            return
        if response is not None:
            if self._response is not None:
                self.future.set_exception(
                    Unsupported("the model produced more than one response to a request that takes one")
                )
                return
            self._response = response
        if final:
            if self._response is None:
                self.future.set_exception(Unsupported("the model produced no response to a request that takes one"))
            else:
                self.future.set_result(self._response)


class StreamReply:
    """A reply that is any number of responses: iterate it. Errors come as items, for they may be followed by more."""

    def __init__(self) -> None:
        self._items: deque[InferResponse | InferenceError] = deque()
        self._final = False
        self._wake = asyncio.Event()

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Queue one response for the iterator."""
        if response is not None:
            self._items.append(response)
        self._final = self._final or final
        self._wake.set()

    @property
    def exhausted(self) -> bool:
        """Tell whether the final response has come and every item been taken."""
        return self._final and not self._items

    async def __aiter__(self) -> AsyncIterator[InferResponse | InferenceError]:
        """Yield responses until the final one has been yielded."""
        while True:
            while self._items:
                yield self._items.popleft()
            if self._final:
                return
            self._wake.clear()
            await self._wake.wait()
