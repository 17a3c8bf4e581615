"""Models whose `execute` (or `is_ready`) is `async def`: their coroutines run on one loop, in a thread of its own.

Imported only when a model returns a coroutine, for asyncio costs every other model 40 ms of start.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from tritium.backends.python.process.link import COROUTINES_THREAD


class Coroutines:
    """The loop and what runs in it unwatched."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._background: set[concurrent.futures.Future[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name=COROUTINES_THREAD, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine, wait for it, and return or raise what it does."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def start(self, coroutine: Coroutine[Any, Any, Any], on_error: Callable[[BaseException], None]) -> None:
        """Run a coroutine without waiting for it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._background.add(future)

        def done(future: concurrent.futures.Future[Any]) -> None:
            self._background.discard(future)
            error = None if future.cancelled() else future.exception()
            if error is not None:
                on_error(error)

        future.add_done_callback(done)

    def stop(self) -> None:
        """Cancel what still runs and end the loop."""
        for future in list(self._background):
            future.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
