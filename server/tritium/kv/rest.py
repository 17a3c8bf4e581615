"""Leaving alone what has failed: for a second, then two, and so on up to a minute, until it works again."""

import threading
import time
from collections.abc import Callable

_FIRST_S = 1.0
_LONGEST_S = 60.0


class Rest:
    """Whether something that failed is asked again; safe from many threads. Times come from `clock`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until = 0.0
        self.seconds = 0.0
        """How long the last rest was to be; 0 once it works."""

    @property
    def resting(self) -> bool:
        """Return whether it is left alone now."""
        return self._clock() < self._until

    def begin(self) -> None:
        """Leave it alone, for twice as long as the last time; not longer for what else fails meanwhile."""
        with self._lock:
            if not self.resting:
                self.seconds = min(_LONGEST_S, self.seconds * 2 or _FIRST_S)
                self._until = self._clock() + self.seconds

    def end(self) -> None:
        """Take note that it works."""
        self.seconds = 0.0
