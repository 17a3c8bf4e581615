"""Leaving alone what has failed: for a second, then two, and so on up to a minute, until it works again."""

import threading
import time

_FIRST_S = 1.0
_LONGEST_S = 60.0


class Rest:
    """Whether something that failed is asked again; safe from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self.seconds = 0.0
        """How long the last rest was to be; 0 once it works."""

    @property
    def resting(self) -> bool:
        """Return whether it is left alone now."""
        return time.monotonic() < self._until

    def begin(self) -> None:
        """Leave it alone, for twice as long as the last time; not longer for what else fails meanwhile."""
        with self._lock:
            if not self.resting:
                self.seconds = min(_LONGEST_S, self.seconds * 2 or _FIRST_S)
                self._until = time.monotonic() + self.seconds

    def end(self) -> None:
        """Take note that it works."""
        self.seconds = 0.0
