"""What a store does beside the calls it has answered: on threads of its own, counted until all of it is done."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Background:
    """Work that nobody waits for, except who asks for it to settle; safe from many threads."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._settled = threading.Condition()
        self._under_way = 0

    def run(self, work: Callable[[], object]) -> None:
        """Do work on one of the threads; raises RuntimeError after `close`."""
        self.begin()
        try:
            self._threads.submit(self._run, work)
        except RuntimeError:
            self.end()
            raise

    def begin(self) -> None:
        """Count work that a thread of somebody else's does."""
        with self._settled:
            self._under_way += 1

    def end(self) -> None:
        """Count such work as done."""
        with self._settled:
            self._under_way -= 1
            self._settled.notify_all()

    def settle(self, timeout_s: float) -> bool:
        """Wait until nothing is under way; return whether it came to that."""
        with self._settled:
            return self._settled.wait_for(lambda: not self._under_way, timeout_s)

    def close(self) -> None:
        """Finish what is under way and take no more."""
        self._threads.shutdown()

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        finally:
            self.end()
