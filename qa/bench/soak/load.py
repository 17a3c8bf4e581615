"""The clients of a soak: a thread a case, which stop together while the server is looked at."""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

from qa.bench.soak.cases import Step, WrongAnswerError
from qa.e2e.product import Product

Case = Callable[[Product], AbstractContextManager[Step]]


class Load:
    """Runs until `end`; `done` counts steps by case, `errors` what went wrong by case and kind."""

    def __init__(self, product: Product, cases: tuple[Case, ...]) -> None:
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._product = product
        self._turn = threading.Condition()
        self._paused = False
        self._ending = False
        self._busy = 0
        self._threads = [threading.Thread(target=self._run, args=(case,), daemon=True) for case in cases]
        for thread in self._threads:
            thread.start()

    def pause(self, timeout_s: float = 120) -> None:
        """Wait until every step under way is done, and begin no other."""
        with self._turn:
            self._paused = True
            if not self._turn.wait_for(lambda: not self._busy, timeout_s):
                raise TimeoutError(f"{self._busy} steps did not end within {timeout_s} s")

    def go_on(self) -> None:
        """Begin steps again."""
        with self._turn:
            self._paused = False
            self._turn.notify_all()

    def end(self) -> None:
        """Let every thread finish its step and leave."""
        with self._turn:
            self._ending = True
            self._paused = False
            self._turn.notify_all()
        for thread in self._threads:
            thread.join(120)

    def _run(self, case: Case) -> None:
        name = case.__name__
        while not self._ending:
            try:
                with case(self._product) as step:
                    while self._enter():
                        try:
                            step()
                        finally:
                            self._leave()
                        self.done[name] += 1
            except WrongAnswerError as wrong:
                self.errors[f"{name}: {wrong}"] += 1
            except Exception as error:  # every kind of failure is counted, and the case opened anew
                self.errors[f"{name}: {type(error).__name__} {error}"[:200]] += 1

    def _enter(self) -> bool:
        with self._turn:
            self._turn.wait_for(lambda: self._ending or not self._paused)
            self._busy += not self._ending
            return not self._ending

    def _leave(self) -> None:
        with self._turn:
            self._busy -= 1
            self._turn.notify_all()
