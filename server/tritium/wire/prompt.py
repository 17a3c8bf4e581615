"""Runs a handler within the callback that brought its request, and again within the one that brings what it awaits.

    begin --returns--> ended
      |--awaits something with `on_ready`--> waiting --ready--> goes on, in the callback that says so
      `--awaits anything else, or `task()`--> goes on in a task, and ends there

That saves a task and two turns of the loop: 5 of 82 µs of CPU for an add_sub over HTTP at 8 at a time, 5 of 99 and 10
of 195 over gRPC at 8 and at one; nothing that could be told from noise elsewhere. It is for handlers that say so, for
until they are in a task they have neither asyncio.current_task (asyncio.timeout needs it) nor context variables.
"""

import asyncio
import types
from collections.abc import Coroutine, Generator, Iterator
from typing import Any, Final

from tritium.wire.http import Handler

Running = dict[object, "asyncio.Task[None] | Prompt"]

_ENDED: Final = object()


class Prompt:
    """A handler under way; it replaces itself in `running` when it becomes a task."""

    __slots__ = ("_coroutine", "_key", "_running", "_steps", "_wake")

    def __init__(self, coroutine: Coroutine[Any, Any, None], running: Running, key: object) -> None:
        self._coroutine = coroutine
        self._steps: Iterator[Any] = coroutine.__await__()
        self._running = running
        self._key = key
        self._wake: asyncio.Future[None] | None = None
        """What the task waits for that it became while it was waiting."""

    def go_on(self) -> None:
        """Run until the handler ends or waits."""
        if self._wake is not None:
            if not self._wake.done():
                self._wake.set_result(None)
            return
        awaited = next(
            self._steps, _ENDED
        )  # catching StopIteration would cost 2 µs: compiled code traces what it catches
        if awaited is _ENDED:
            return
        on_ready = getattr(awaited, "on_ready", None)
        if on_ready is not None:
            on_ready(self.go_on)
        else:
            self._become_task(_once(awaited))

    def task(self) -> "asyncio.Task[None]":
        """Let a waiting handler go on in a task, which can be waited for and cancelled."""
        self._wake = asyncio.get_running_loop().create_future()
        return self._become_task(self._wake.__await__())

    def _become_task(self, standing: Generator[Any, None, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(_rest(self._coroutine, standing))
        self._running[self._key] = task
        return task


def prompt(handler: Handler) -> Handler:
    """Mark a handler as one that may run without a task."""
    handler.prompt = True  # type: ignore[attr-defined]  # what `is_prompt` looks for
    return handler


def is_prompt(handler: Handler) -> bool:
    """Tell whether a handler is marked."""
    return getattr(handler, "prompt", False)


async def in_task() -> None:
    """Go on in a task: for parts of a marked handler that need one."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)


async def _rest(coroutine: Coroutine[Any, Any, None], standing: Generator[Any, None, None]) -> None:
    await _driven(coroutine, standing)


@types.coroutine
def _driven(coroutine: Coroutine[Any, Any, None], standing: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """Drive a coroutine that stands at an await; what is thrown in, a cancellation for one, is thrown on."""
    while True:
        try:
            try:
                yield from standing
            except BaseException as error:  # noqa: BLE001  # whatever it is, it is for the coroutine
                awaited = coroutine.throw(error)
            else:
                awaited = coroutine.send(None)
        except StopIteration:
            return
        standing = _once(awaited)


def _once(awaited: Any) -> Generator[Any, None, None]:
    yield awaited
