"""The sending side of one stream: its window, and what waits for it."""

from collections import deque

from tritium.wire.gate import Gate


class Outlet:
    """Whether headers have left, what is pending, and how the stream ends once nothing is."""

    __slots__ = (
        "begun",
        "closed",
        "gate",
        "pending",
        "pending_bytes",
        "stalled_at",
        "stalled_since",
        "stream_id",
        "trailers",
        "window",
    )

    def __init__(self, stream_id: int, window: int) -> None:
        self.stream_id = stream_id
        self.window = window
        self.begun = False
        """Whether response headers have left."""
        self.closed = False
        self.pending: deque[memoryview] | None = None
        """The parts of messages that wait; most streams never have any."""
        self.pending_bytes = 0
        self.trailers: bytes | None = None
        """The block that ends the stream once everything pending has left."""
        self.gate: Gate | None = None
        """Holds the writer back while too much is pending."""
        self.stalled_at = -1
        self.stalled_since = 0.0
