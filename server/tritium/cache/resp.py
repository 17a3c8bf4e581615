"""The bytes that Redis speaks (RESP2): commands out, replies in. No sockets here.

Only the kinds of reply that PING, AUTH, SELECT, GET and SET have: a line, an error, a number, bytes or nothing.
"""

from dataclasses import dataclass
from typing import Final

LONGEST_LINE_BYTES: Final = 64 << 10
LONGEST_VALUE_BYTES: Final = 512 << 20
"""What Redis allows in one value."""


@dataclass(frozen=True, slots=True)
class RedisError:
    """What Redis refused, in its words."""

    message: str


Reply = bytes | int | RedisError | None


class ProtocolError(Exception):
    """The other side does not speak RESP."""


def command(*parts: bytes) -> bytes:
    """Write one command."""
    pieces = [b"*%d\r\n" % len(parts)]
    for part in parts:
        pieces.append(b"$%d\r\n" % len(part))
        pieces.append(part)
        pieces.append(b"\r\n")
    return b"".join(pieces)


class ReplyReader:
    """Puts replies together from whatever pieces they arrive in."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._value_bytes = -1

    def feed(self, data: bytes) -> list[Reply]:
        """Take bytes in; return the replies that are complete.

        Raises:
            ProtocolError: these are no replies.
        """
        self._buffer += data
        replies: list[Reply] = []
        at = 0
        while True:
            if self._value_bytes >= 0:
                end = at + self._value_bytes
                if len(self._buffer) < end + 2:
                    break
                replies.append(bytes(self._buffer[at:end]))
                at = end + 2
                self._value_bytes = -1
                continue
            end = self._buffer.find(b"\r\n", at, at + LONGEST_LINE_BYTES)
            if end < 0:
                if len(self._buffer) - at >= LONGEST_LINE_BYTES:
                    raise ProtocolError("a line without end")
                break
            kind, rest = self._buffer[at : at + 1], bytes(self._buffer[at + 1 : end])
            at = end + 2
            if kind == b"$" and rest != b"-1":
                self._value_bytes = _number(rest)
                if not 0 <= self._value_bytes <= LONGEST_VALUE_BYTES:
                    raise ProtocolError(f"a value of {self._value_bytes} bytes")
            else:
                replies.append(_reply(bytes(kind), rest))
        del self._buffer[:at]
        return replies


def _reply(kind: bytes, rest: bytes) -> Reply:
    if kind == b"+":
        return rest
    if kind == b"-":
        return RedisError(rest.decode(errors="replace"))
    if kind == b":":
        return _number(rest)
    if kind == b"$":
        return None
    raise ProtocolError(f"a reply that begins with {kind!r}")


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise ProtocolError(f"{text!r} is no number") from None
