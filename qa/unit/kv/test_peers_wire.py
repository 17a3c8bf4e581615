"""What comes from whoever reaches a store's port, or waits at a peer's address: no more than a connection is lost."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tritium.kv.peers.wire import Line, Purpose, Welcome, ask_in, let_in

NOBODY = Welcome(b"", b"", b"", 0, 0)
DEEP = b"\x93\xa5probe\x01" + b"\x91" * 60_000 + b"\x01"
NO_TEXT = b"\x92\xa7refused\xa2\xff\xfe"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    with here, there:
        yield here, there


@pytest.mark.parametrize("frame", [DEEP, NO_TEXT], ids=["deep", "no text"])
def test_frames_that_no_store_sends_are_told_apart(frame: bytes, ends: tuple[socket.socket, socket.socket]) -> None:
    """Whoever follows a peer waits for OSError: any other error would end it for good."""
    here, there = ends
    there.sendall(len(frame).to_bytes(4, "big") + frame)
    line = Line(here)
    line.patience(60)
    with pytest.raises(OSError, match="not of a store"):
        ask_in(line, Purpose.FOLLOW, b"us", None, b"")


def test_a_greeting_that_comes_drop_by_drop_ends(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are so many connections, and a stranger could hold all of them with a byte now and then."""
    monkeypatch.setattr("tritium.kv.peers.wire.GREETING_S", 1.0)
    here, there = ends
    over = threading.Event()

    def drip() -> None:
        here.sendall((60_000).to_bytes(4, "big"))
        while not over.wait(0.05):
            here.sendall(b"\x00")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        before_s = time.monotonic()
        with pytest.raises(TimeoutError):
            let_in(Line(there), b"store", None, NOBODY)
        assert time.monotonic() - before_s < 300
    finally:
        over.set()
        dripping.join()


def test_who_was_let_in_may_be_silent(ends: tuple[socket.socket, socket.socket]) -> None:
    """The end of greetings is none of the connection."""
    here, there = ends
    asking, giving = Line(here), Line(there)
    asking.patience(60)
    seen: list[Welcome] = []
    asked = threading.Thread(target=lambda: seen.append(ask_in(asking, Purpose.FETCH, b"us", b"s" * 16, b"")))
    asked.start()
    let_in(giving, b"store", b"s" * 16, NOBODY)
    asked.join()
    assert seen[0].store == b"store"
    giving.patience(None)
    assert there.gettimeout() is None
