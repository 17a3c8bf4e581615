"""Responses that go on without their client: a request that nobody leaves, and the tasks that answer it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tritium.wire.http import Headers, Request, Stream


class DetachedRequest:
    """A request whose client was answered already: nobody can leave, and nothing can be streamed."""

    def __init__(self, request: Request) -> None:
        self.method = request.method
        self.path = request.path
        self.query = request.query
        self.headers = request.headers
        self.body = request.body
        self.peer = request.peer
        self._header = request.header

    def header(self, name: bytes, default: bytes = b"") -> bytes:
        """Return the value of a header."""
        return self._header(name, default)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Forget the callback: the client is not waited for."""

    def stream(self, status: int, headers: Headers) -> Stream:
        """Refuse: there is nobody to send it to."""
        raise AssertionError(f"a background response cannot stream ({status}, {len(headers)} headers)")


class Background:
    """The responses under way, by id."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    def start(self, response_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Let the work go on by itself."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[response_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(response_id, None))

    async def cancel(self, response_id: str) -> None:
        """End the work on a response and wait until it has; harmless when it is over."""
        if task := self._tasks.get(response_id):
            task.cancel()
            await asyncio.wait((task,))
