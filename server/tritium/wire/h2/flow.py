"""What a peer may still send us: the receiving side of flow control, per stream and per connection."""


class Credit:
    """A receive window.

    Credit is given back in few large steps: a WINDOW_UPDATE leaves when half of the window is used up, so that the
    peer never waits and small calls cost no extra frame.
    """

    __slots__ = ("_size", "_spent", "_step", "_window")

    def __init__(self, size: int) -> None:
        self._size = size
        self._step = size // 2
        self._window = size
        self._spent = 0

    def take(self, held: int) -> bool:
        """Note that the peer used `held` bytes; False if it had no right to."""
        self._window -= held
        return self._window >= 0

    def give(self, held: int) -> int:
        """Note that `held` bytes are dealt with; return the credit to announce now, mostly 0."""
        self._spent += held
        if self._spent < self._step:
            return 0
        credit, self._spent = self._spent, 0
        self._window += credit
        return credit
