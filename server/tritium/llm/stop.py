"""Stop strings, found however the tokens cut them.

The match that ends first wins (of those, the longest), so that the text does not depend on how it was cut. Text that
could still become a stop string is held back; nothing else is.
"""

from collections.abc import Sequence


class StopMatcher:
    """Watches the text of one sequence for its stop strings."""

    __slots__ = ("_held", "_include", "_stops", "matched")

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._stops = tuple(stops)
        self._include = include
        self._held = ""
        self.matched: str | None = None
        """The stop string that ended the text."""

    def push(self, text: str) -> str:
        """Take more text and return what is safe to send; after a match `matched` is set and nothing more comes."""
        if self.matched is not None:
            return ""
        text = self._held + text
        found = self._first(text)
        if found is not None:
            start, stop = found
            self.matched, self._held = stop, ""
            return text[: start + len(stop)] if self._include else text[:start]
        keep = self._could_become(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return what was held back: the text is over and it did not become a stop string."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> tuple[int, str] | None:
        best: tuple[int, str] | None = None
        for stop in self._stops:
            at = text.find(stop)
            if at >= 0 and (best is None or (at + len(stop), at) < (best[0] + len(best[1]), best[0])):
                best = (at, stop)
        return best

    def _could_become(self, text: str) -> int:
        """Return the length of the longest end of `text` that a stop string begins with."""
        kept = 0
        for stop in self._stops:
            # Only where its first character stands can it have begun: most texts are done with at once.
            at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
            while 0 <= at < len(text) - kept:
                if stop.startswith(text[at:]):
                    kept = len(text) - at
                at = text.find(stop[0], at + 1)
        return kept
