"""Bytes that were right once: a seeded source of small damage, and a peer that sends them and waits for the end.

TRITIUM_FUZZ_S bounds how long each fuzz test runs, TRITIUM_FUZZ_SEED chooses other damage.
"""

import os
import random
import socket
import time
from collections.abc import Iterator, Sequence

SECONDS = float(os.environ.get("TRITIUM_FUZZ_S", "8"))
SEED = int(os.environ.get("TRITIUM_FUZZ_SEED", "1"))
ANSWER_WITHIN_S = 60.0
INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\r\n",
    b"\n",
    b'"',
    b"-1",
    b"0",
    b"99999999999999999999",
    b"NaN",
    b"{",
)


def damaged(originals: Sequence[bytes], most: int) -> Iterator[bytes]:
    """Yield damaged copies of the originals, until the time is up or there are `most` of them; the same every time."""
    source = random.Random(SEED)  # no secret
    until = time.monotonic() + SECONDS
    for _ in range(most):
        if time.monotonic() > until:
            return
        data = bytearray(source.choice(originals))
        for _ in range(source.choice((1, 1, 1, 2, 4, 16))):
            _damage(source, data, originals)
        yield bytes(data)


def _damage(source: random.Random, data: bytearray, originals: Sequence[bytes]) -> None:
    at = source.randrange(len(data) + 1)
    size = source.choice((1, 1, 2, 4, 16, 64))
    match source.randrange(7):
        case 0 if at < len(data):
            data[at] ^= 1 << source.randrange(8)
        case 1:
            del data[at : at + size]
        case 2:
            data[at:at] = source.randbytes(size)
        case 3:
            data[at : at + size] = source.choice(INTERESTING)
        case 4:
            data[at:at] = data[at : at + size] * source.choice((1, 2, 50))
        case 5:
            del data[at:]
        case _:
            other = source.choice(originals)
            cut = source.randrange(len(other) + 1)
            data[at:] = other[cut:]


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes, end the sending side, and return everything that comes until the server closes.

    Raises:
        TimeoutError: the server keeps the connection.
    """
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), ANSWER_WITHIN_S) as peer:
        try:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            while piece := peer.recv(1 << 16):
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass  # the server may have read enough
    return bytes(received)
