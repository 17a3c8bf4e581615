"""Reading repositories on threads of their own, which end with the process.

The loop's own threads also compress, tokenize and render: an object store that hangs must not keep those waiting, nor
the server from ending.
"""

import asyncio
import contextlib
from collections.abc import Callable
from threading import Thread
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_MOST = 32
"""Readings at a time; others wait for one to end."""


class Aside:
    """Runs what blocks beside the event loop; whoever waits may leave, the work goes on."""

    def __init__(self, most: int = _MOST) -> None:
        self._slots = asyncio.Semaphore(most)

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a function on a thread of its own, and return what it returns or raise what it raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()

        def tell(set_outcome: Callable[..., None], outcome: object) -> None:
            if not done.done():
                set_outcome(outcome)

        def body() -> None:
            try:
                outcome: object = work(*args, **kwargs)
                set_outcome: Callable[..., None] = done.set_result
            except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
                outcome, set_outcome = error, done.set_exception
            # Where the loop has ended nobody waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, set_outcome, outcome)

        async with self._slots:
            Thread(target=body, name="repository", daemon=True).start()
            return await done
