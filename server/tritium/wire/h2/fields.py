"""Header blocks to fields: the receiving side of header compression (RFC 7541).

The `hpack` library does the same and is the oracle of the tests, but takes 65 to 120 µs for a request whose headers
change with every call (traceparent, grpc-timeout); this takes 10, and nothing where `HeadDecoder` remembers the block.
"""

from collections import deque

from hpack.table import HeaderTable

from tritium.wire.h2.huffman import decode_huffman

TABLE_BYTES = 4096
"""The dynamic table we offer: the default of SETTINGS_HEADER_TABLE_SIZE, which we do not change."""
ENTRY_BYTES = 32
_STATIC: tuple[tuple[bytes, bytes], ...] = ((b"", b""), *HeaderTable.STATIC_TABLE)
_DYNAMIC = 0x80 + len(_STATIC)
_MOST_INTEGER = (1 << 32) - 1

Field = tuple[bytes, bytes]


class BrokenBlock(ValueError):
    """The block cannot be decoded, so that no later one on the connection could be either."""


class ListTooLarge(ValueError):
    """The fields take more than was agreed, whatever the block's own size."""


class FieldDecoder:
    """A connection's dynamic table. `changes` counts how often it was altered."""

    __slots__ = ("_entries", "_limit", "_list_bytes", "_size", "changes")

    def __init__(self, *, list_bytes: int) -> None:
        """Refuse header lists that decode to more than `list_bytes`."""
        self._entries: deque[Field] = deque()
        self._size = 0
        self._limit = TABLE_BYTES
        self._list_bytes = list_bytes
        self.changes = 0

    def decode(self, block: bytes) -> list[Field]:
        """Decode a block.

        Raises:
            BrokenBlock: The block is not HPACK.
            ListTooLarge: The fields are too many or too large together.
        """
        try:
            return self._decode(block)
        except IndexError:
            raise BrokenBlock("the block is cut short, or points outside of the tables") from None

    def _decode(self, block: bytes) -> list[Field]:
        fields: list[Field] = []
        left = self._list_bytes
        at, end = 0, len(block)
        while at < end:
            first = block[at]
            if 0x80 < first < 0xFF:
                # Both tables by one byte: nearly every field of a client that has called before.
                at += 1
                field = _STATIC[first - 0x80] if first < _DYNAMIC else self._entries[first - _DYNAMIC]
            elif first & 0x80:
                index, at = _integer(block, at, 7)
                field = self._lookup(index)
            elif first & 0xE0 == 0x20:
                if fields:
                    raise BrokenBlock("the table is resized behind a field")
                size, at = _integer(block, at, 5)
                self._resize(size)
                continue
            else:
                indexed = first & 0x40
                index, at = _integer(block, at, 6 if indexed else 4)
                if index:
                    name = self._lookup(index)[0]
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                field = (name, value)
                if indexed:
                    self._add(field)
            fields.append(field)
            left -= len(field[0]) + len(field[1]) + ENTRY_BYTES
            if left < 0:
                raise ListTooLarge(f"headers of more than {self._list_bytes} bytes")
        return fields

    def _lookup(self, index: int) -> Field:
        if 0 < index < len(_STATIC):
            return _STATIC[index]
        index -= len(_STATIC)
        if 0 <= index < len(self._entries):
            return self._entries[index]
        raise BrokenBlock("an index points outside of the tables")

    def _add(self, field: Field) -> None:
        self.changes += 1
        size = len(field[0]) + len(field[1]) + ENTRY_BYTES
        self._evict(self._limit - size)
        if size <= self._limit:
            self._entries.appendleft(field)
            self._size += size

    def _resize(self, limit: int) -> None:
        if limit > TABLE_BYTES:
            raise BrokenBlock("the table is resized beyond what was agreed")
        self.changes += 1
        self._limit = limit
        self._evict(limit)

    def _evict(self, room: int) -> None:
        """Drop the oldest entries until the rest take `room` or less."""
        while self._entries and self._size > room:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + ENTRY_BYTES


def _integer(block: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    """Decode an integer; return it and where the rest starts."""
    most = (1 << prefix_bits) - 1
    number = block[at] & most
    at += 1
    if number < most:
        return number, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        shift += 7
        if number > _MOST_INTEGER or shift > 35:
            raise BrokenBlock("an integer is too large")
        if byte < 0x80:
            return number, at


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """Decode a string; return it and where the rest starts."""
    huffman = block[at] & 0x80
    size, at = _integer(block, at, 7)
    end = at + size
    if end > len(block):
        raise BrokenBlock("a string is longer than its block")
    text = block[at:end]
    if not huffman:
        return text, end
    try:
        return decode_huffman(text), end
    except ValueError as error:
        raise BrokenBlock(str(error)) from None
