"""Header blocks: HEADERS and the CONTINUATIONs that may follow, put together within bounds."""

from tritium.wire.h2.frames import END_HEADERS, END_STREAM, PADDED, PRIORITY_FLAG, Code, ConnectionFault

MOST_CONTINUATIONS = 32
"""A block of the largest size we take needs four; frames beyond need are an attack (CVE-2024-27316 and kin)."""


class BlockCollector:
    """The block under way on a connection; there is at most one (RFC 9113, 6.10)."""

    __slots__ = ("_continuations", "_limit", "_parts", "ends_stream", "stream_id")

    def __init__(self, limit: int) -> None:
        """Take blocks of up to `limit` compressed bytes."""
        self._limit = limit
        self._parts: list[bytes] = []
        self._continuations = 0
        self.stream_id = 0
        """The stream of the block under way; 0 between blocks."""
        self.ends_stream = False

    def begin(self, flags: int, stream_id: int, payload: bytes) -> bytes | None:
        """Take a HEADERS frame; return its block if it is whole.

        Raises:
            ConnectionFault: The frame's padding or priority does not fit into it.
        """
        if flags & (PADDED | PRIORITY_FLAG):
            payload = _strip(flags, payload)
        self.ends_stream = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            return payload
        self.stream_id = stream_id
        self._parts = [payload]
        self._continuations = 0
        return None

    def more(self, flags: int, stream_id: int, payload: bytes) -> bytes | None:
        """Take a CONTINUATION frame; return the block if it is whole now.

        Raises:
            ConnectionFault: No block is open on this stream, or it has grown too large.
        """
        if not stream_id or stream_id != self.stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without HEADERS before it")
        self._parts.append(payload)
        self._continuations += 1
        if self._continuations > MOST_CONTINUATIONS or sum(map(len, self._parts)) > self._limit:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block that does not end")
        if not flags & END_HEADERS:
            return None
        self.stream_id = 0
        return b"".join(self._parts)


def _strip(flags: int, payload: bytes) -> bytes:
    """Cut padding and priority off the payload of a HEADERS frame."""
    start = (1 if flags & PADDED else 0) + (5 if flags & PRIORITY_FLAG else 0)
    if len(payload) < start:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS is shorter than its fixed fields")
    end = len(payload) - (payload[0] if flags & PADDED else 0)
    if end < start:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS with more padding than payload")
    return payload[start:end]
