"""Responses of the Python API, waited for one by one: in a thread, or on the event loop of who asks.

server's loop: Reply.send -> InferenceResponse -> queue   ->  next(iterator), anext(iterator)
"""

import asyncio
import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tritium.api.errors import TritonError, exception_of
from tritium.api.tensor import Tensor
from tritium.core.errors import InferenceError
from tritium.core.request import InferResponse, Parameter

if TYPE_CHECKING:
    from tritium.api.model import Model


@dataclass
class InferenceResponse:
    """One response. With `error` there are no outputs; the last one of a decoupled model may have none either."""

    model: "Model"
    request_id: str | None = None
    parameters: dict[str, Parameter] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    error: TritonError | None = None
    classification_label: str | None = None
    final: bool = False


class Inbox:
    """The server's side of an iterator: makes responses of what a model answers, on the server's loop."""

    def __init__(self, model: "Model", request_id: str | None, put: Callable[[InferenceResponse], None]) -> None:
        self._model = model
        self._request_id = request_id
        self._put = put

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Deliver one response."""
        made = InferenceResponse(self._model, self._request_id, final=final)
        if isinstance(response, InferenceError):
            made.error = exception_of(response)
        elif response is not None:
            made.parameters = dict(response.parameters)
            made.outputs = {t.name: Tensor(t.datatype, t.shape, t.data) for t in response.outputs}
        self._put(made)


class ResponseIterator:
    """The responses to one request; `next` waits. An error is raised, or (`raise_on_error` False) a response."""

    def __init__(self, cancel: Callable[[], None], *, raise_on_error: bool) -> None:
        self._cancel = cancel
        self._raise_on_error = raise_on_error
        self._arrived: queue.SimpleQueue[InferenceResponse] = queue.SimpleQueue()
        self._complete = False

    def __iter__(self) -> "ResponseIterator":
        """Iterate until the final response."""
        return self

    def __next__(self) -> InferenceResponse:
        if self._complete:
            raise StopIteration
        response = self._arrived.get()
        self._complete = response.final
        if response.error is not None and self._raise_on_error:
            raise response.error
        return response

    def put(self, response: InferenceResponse) -> None:
        """Take a response in; from the server's loop."""
        self._arrived.put(response)

    def cancel(self) -> None:
        """Ask the model to stop; what it still says is delivered."""
        self._cancel()


class AsyncResponseIterator:
    """The same for `async for`, on the event loop that made it."""

    def __init__(self, cancel: Callable[[], None], *, raise_on_error: bool) -> None:
        self._cancel = cancel
        self._raise_on_error = raise_on_error
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[InferenceResponse] = asyncio.Queue()
        self._complete = False

    def __aiter__(self) -> "AsyncResponseIterator":
        """Iterate until the final response."""
        return self

    async def __anext__(self) -> InferenceResponse:
        if self._complete:
            raise StopAsyncIteration
        response = await self._arrived.get()
        self._complete = response.final
        if response.error is not None and self._raise_on_error:
            raise response.error
        return response

    def put(self, response: InferenceResponse) -> None:
        """Take a response in; from the server's loop."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, response)

    def cancel(self) -> None:
        """Ask the model to stop; what it still says is delivered."""
        self._cancel()
