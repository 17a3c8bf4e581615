"""Huffman decoding of header strings (RFC 7541, 5.2 and appendix B), a byte at a time.

A state is a node of the code's tree. What a byte does in a state, the symbols it completes and the state it leads to,
is worked out bit by bit the first time and remembered: 36 bytes then take 3 µs, where going by half-bytes takes 22.
"""

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

Node = int
_ROOT: Node = 0
_EOS = 256
_LONGEST_PADDING = 7


def _grow() -> tuple[list[list[int]], frozenset[Node]]:
    """Build the tree: for each node its two children, a node if positive, else the complement of a symbol.

    The second result are the nodes in which a string may end: those reached by a few ones alone, which is padding.
    """
    tree: list[list[int]] = [[0, 0]]
    for symbol, (code, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)):
        node = _ROOT
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            if not tree[node][bit]:
                tree.append([0, 0])
                tree[node][bit] = len(tree) - 1
            node = tree[node][bit]
        tree[node][code & 1] = ~symbol
    ends = [_ROOT]
    for _ in range(_LONGEST_PADDING):
        ends.append(tree[ends[-1]][1])
    return tree, frozenset(ends)


_TREE, _ENDS = _grow()
_steps: dict[int, tuple[bytes, Node]] = {}
"""By node << 8 | byte; at most 65,536, of which a client's ordinary text needs some hundreds."""


def _step(node: Node, byte: int) -> tuple[bytes, Node]:
    key = node << 8 | byte
    symbols = bytearray()
    for shift in range(7, -1, -1):
        child = _TREE[node][byte >> shift & 1]
        if child >= 0:
            node = child
        elif ~child == _EOS:
            raise ValueError("a Huffman string holds the end-of-string symbol")
        else:
            symbols.append(~child)
            node = _ROOT
    _steps[key] = found = (bytes(symbols), node)
    return found


def decode_huffman(data: bytes) -> bytes:
    """Decode a string.

    Raises:
        ValueError: It holds the end-of-string symbol, or is padded with anything but up to seven ones.
    """
    node = _ROOT
    parts: list[bytes] = []
    for byte in data:
        symbols, node = _steps.get(node << 8 | byte) or _step(node, byte)
        parts.append(symbols)
    if node not in _ENDS:
        raise ValueError("a Huffman string is not padded with ones")
    return b"".join(parts)
