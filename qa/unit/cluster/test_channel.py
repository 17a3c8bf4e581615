"""Frames over a socket: cut anywhere, decoded by type, hostile lengths refused."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.backends.engine import Delta, EngineInfo, Generate, Step, TokenLogprob
from tritium.cluster.channel import Channel
from tritium.cluster.frames import (
    Abort,
    CacheChanged,
    Drain,
    Emptied,
    Entered,
    Failed,
    FromWorker,
    Gauges,
    Load,
    Ready,
    Submit,
    ToWorker,
)

FROM_WORKER = [
    Ready(EngineInfo("e", "1", 100, 16, 10, 4, notes=("a",))),
    Failed("no"),
    Step([Delta(1, [2], logprobs=[[TokenLogprob(2, -1.0, 1)]]), Delta(3, [], "error", error="x", invalid=True)], 2, 1),
    CacheChanged(7, [Entered([1, 2**64 - 1], "host"), Emptied()]),
    Gauges({"a": 1.0}),
]
TO_WORKER = [
    Load(1, "e", "/f", {"a": [1]}, "prefill", "w"),
    Submit(Generate(1, [1, 2], {"max_tokens": 1}, {"a": 1}, "l", 2, "salt")),
    Abort(1),
    Drain(1.5),
]


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.writes = 0
        self.aborted = False

    def write(self, data) -> None:
        self.written += data
        self.writes += 1

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    close = abort


def _channel(frames):
    taken, closed = [], []
    channel = Channel(frames, taken.append, closed.append)
    wire = Wire()
    channel.connection_made(wire)
    return channel, wire, taken, closed


@given(st.lists(st.integers(1, 40), max_size=30))
def test_frames_survive_any_cutting(cuts):
    """However the bytes arrive, the same frames come out in order, in both directions."""
    for frames, kind in ((FROM_WORKER, FromWorker), (TO_WORKER, ToWorker)):
        receiver, _, taken, _ = _channel(kind)
        data = asyncio.run(_sent(kind, frames)).written
        for cut in cuts:
            receiver.data_received(data[:cut])
            data = data[cut:]
        receiver.data_received(data)
        assert frames == taken


async def _sent(kind, frames):
    sender, wire, _, _ = _channel(kind)
    sender.send(*frames[:2])
    for frame in frames[2:]:
        sender.send(frame)
    await asyncio.sleep(0)
    return wire


async def test_a_turn_of_the_loop_is_one_write():
    """What is sent in one turn leaves together; what comes later is a write of its own."""
    channel, wire, _, _ = _channel(ToWorker)
    for turn in (1, 2):
        for number in range(10):
            channel.send(Abort(number))
        await asyncio.sleep(0)
        assert wire.writes == turn


async def test_frame_that_cannot_be_written():
    """A number beyond 64 bits is told to whoever sends it, and spoils no other frame of the turn."""
    channel, wire, _, _ = _channel(ToWorker)
    channel.send(Abort(1))
    with pytest.raises(OverflowError):
        channel.send(Abort(1 << 70))
    channel.send(Abort(2))
    await asyncio.sleep(0)
    receiver, _, taken, _ = _channel(ToWorker)
    receiver.data_received(wire.written)
    assert taken == [Abort(1), Abort(2)]


async def test_frame_that_is_too_large(monkeypatch):
    """A frame that the other end would take for a fault is told to whoever sends it, and breaks nothing."""
    monkeypatch.setattr("tritium.cluster.channel.MAX_FRAME_BYTES", 1_000)
    channel, wire, _, _ = _channel(ToWorker)
    with pytest.raises(OverflowError, match="bytes, more than 1000"):
        channel.send(Submit(Generate(1, [70_000] * 500, {})))
    channel.send(Abort(2))
    await asyncio.sleep(0)
    receiver, _, taken, _ = _channel(ToWorker)
    receiver.data_received(wire.written)
    assert taken == [Abort(2)]


async def test_what_was_sent_before_the_end_arrives():
    """Closing sends what waits for the end of the turn."""
    channel, wire, _, _ = _channel(ToWorker)
    channel.send(Abort(1))
    channel.close()
    assert wire.written
    assert wire.aborted


def test_hostile_frames_end_the_connection():
    """A length beyond the limit, or a body that is no frame, aborts the connection and says why."""
    deep = b"\x91" * 100_000
    for data, words in (
        (b"\xff\xff\xff\xff", "a frame of 4294967295 bytes"),
        (b"\0\0\0\1\xc1", "malformed"),
        (b"\0\0\0\3\xa2\xff\xfe", "utf-8"),
        (len(deep).to_bytes(4, "big") + deep, "recursion"),
    ):
        channel, wire, taken, closed = _channel(Any)
        channel.data_received(data)
        assert wire.aborted
        channel.connection_lost(None)
        assert words in str(closed[0]).lower()
        assert taken == []


def test_sending_after_the_end_is_dropped():
    """What is sent to a lost worker goes nowhere: the owner hears of the loss once, by on_close."""
    channel, wire, _, closed = _channel(FromWorker)
    channel.connection_lost(None)
    channel.send(Failed("x"))
    assert wire.written == b""
    assert closed == [None]


def test_step_is_small():
    """A step of 64 streams with a token each stays within 21 bytes a token: it is what every token costs."""
    step = Step([Delta(1_000_000 + index, [50_000]) for index in range(64)])
    assert len(msgspec.msgpack.encode(step)) < 64 * 21
