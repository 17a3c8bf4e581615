"""Frames off a socket, however they are cut."""

import random
import socket
import threading

import msgspec
import pytest

from tritium.backends.python import stream
from tritium.backends.python.frames import LENGTH
from tritium.backends.python.stream import Fatal, FrameReader

DECODER = msgspec.msgpack.Decoder(list[bytes | int])


def frame(*messages) -> bytes:
    body = msgspec.msgpack.encode(list(messages))
    return LENGTH.pack(len(body)) + body


@pytest.fixture
def pair():
    with (ends := socket.socketpair())[0], ends[1]:
        yield ends


def read_all(reader) -> list:
    found = []
    while (messages := reader.read()) is not None:
        found += messages
    return found


@pytest.mark.parametrize("seed", range(10))
def test_cut_anywhere(pair, seed):
    """Messages arrive whole and in order, whatever pieces the bytes come in."""
    here, there = pair
    dice = random.Random(seed)
    sent = [[dice.randrange(100), dice.randbytes(dice.choice((0, 3, 1000, 400_000)))] for _ in range(20)]
    data = b"".join(frame(*messages) for messages in sent)

    def write() -> None:
        at = 0
        while at < len(data):
            step = dice.choice((1, 2, 5, 1000, 100_000))
            there.sendall(data[at : at + step])
            at += step
        there.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=write)
    writer.start()
    assert [message for messages in sent for message in messages] == read_all(FrameReader(here, DECODER))
    writer.join()


def test_a_long_frame_is_forgotten(pair):
    """A frame longer than the buffer makes it longer, for that frame only."""
    here, there = pair
    reader = FrameReader(here, DECODER)
    long = bytes(stream.KEEP_BYTES + 1)
    writer = threading.Thread(target=there.sendall, args=(frame(long),))
    writer.start()
    while not (messages := reader.read()):
        pass
    writer.join()
    assert [long] == messages
    there.sendall(frame(1))
    assert reader.read() == [1]
    assert len(reader._buffer) == stream.READ_BYTES


def test_nothing_there(pair):
    """A read that may not wait says so, and loses nothing."""
    here, there = pair
    reader = FrameReader(here, DECODER)
    there.sendall(frame(1)[:3])
    assert reader.read(socket.MSG_DONTWAIT) == []
    with pytest.raises(BlockingIOError):
        reader.read(socket.MSG_DONTWAIT)
    there.sendall(frame(1)[3:])
    assert reader.read(socket.MSG_DONTWAIT) == [1]


def test_plain_text(pair):
    """A process that cannot speak in messages is heard all the same."""
    here, there = pair
    there.sendall(LENGTH.pack(6) + b"!no me")
    with pytest.raises(Fatal, match="no me"):
        FrameReader(here, DECODER).read()
