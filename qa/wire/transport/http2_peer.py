"""A client that sends HTTP/2 frames as it is told, however wrong."""

import struct
from dataclasses import dataclass

import hpack

from tritium.wire.h2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Code,
    Kind,
    pack_frame,
    pack_settings,
)

BOUND_S = 60.0


REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/s/Echo"),
    (":authority", "h"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


BOTH = END_HEADERS | END_STREAM


def block(changes=(), without=()) -> bytes:
    fields = dict(REQUEST) | dict(changes)
    return hpack.Encoder().encode([(name, value) for name, value in fields.items() if name not in without])


def message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


def frames(*each: tuple) -> bytes:
    return b"".join(pack_frame(*frame) for frame in each)


OPEN = (Kind.HEADERS, END_HEADERS, 1, block())


CALL = (Kind.HEADERS, BOTH, 1, block())


@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class RawHttp2:
    """A client that sends frames as it is told, however wrong."""

    def __init__(self, peer) -> None:
        self.peer = peer
        self.decoder = hpack.Decoder()
        self.settings: dict[int, int] = {}

    async def send(self, kind, flags, stream, payload=b"") -> None:
        await self.peer.send(pack_frame(kind, flags, stream, payload))

    async def greet(self, settings=None) -> "RawHttp2":
        await self.peer.send(PREFACE + pack_settings(settings or {}))
        hello = await self.frame()
        assert hello.kind == Kind.SETTINGS
        self.settings = dict(struct.iter_unpack(">HL", hello.payload))
        await self.send(Kind.SETTINGS, ACK, 0)
        while (frame := await self.frame()).kind != Kind.SETTINGS:
            assert frame.kind == Kind.WINDOW_UPDATE
        assert frame.flags == ACK
        return self

    async def call(self, stream: int, data: bytes = b"hi", **changes) -> None:
        await self.send(Kind.HEADERS, END_HEADERS, stream, block(**changes))
        await self.send(Kind.DATA, END_STREAM, stream, message(data))

    async def frame(self) -> Frame:
        head = await self.peer.read_exactly(9)
        size = int.from_bytes(head[:3], "big")
        return Frame(head[3], head[4], int.from_bytes(head[5:], "big"), await self.peer.read_exactly(size))

    async def next(self, *kinds: int) -> Frame:
        while (frame := await self.frame()).kind not in kinds:
            pass
        return frame

    def headers(self, frame: Frame) -> dict[str, str]:
        assert frame.kind == Kind.HEADERS
        return dict(self.decoder.decode(frame.payload))

    async def reply(self, stream: int) -> tuple[bytes, dict[str, str]]:
        """Read the answer to one call: its data and its trailers."""
        data = b""
        while True:
            frame = await self.next(Kind.HEADERS, Kind.DATA, Kind.RST_STREAM, Kind.GOAWAY)
            if frame.stream != stream and frame.kind != Kind.GOAWAY:
                continue
            assert frame.kind in (Kind.HEADERS, Kind.DATA), frame
            if frame.kind == Kind.DATA:
                data += frame.payload
            elif frame.flags & END_STREAM:
                return data, self.headers(frame)
            else:
                assert self.headers(frame)[":status"] == "200"

    async def works(self, stream: int) -> None:
        """Check that the connection still serves."""
        await self.call(stream, b"still here")
        data, trailers = await self.reply(stream)
        assert (data, trailers["grpc-status"]) == (message(b"still here"), "0")

    async def goaway(self) -> Code:
        """Read until the server gives up on the connection; return why."""
        frame = await self.next(Kind.GOAWAY)
        code = Code(int.from_bytes(frame.payload[4:8], "big"))
        assert len(frame.payload) > 8
        assert await self.peer.closed()
        return code

    async def reset(self, stream: int) -> Code:
        """Read until the server resets a stream; return why."""
        while (frame := await self.next(Kind.RST_STREAM, Kind.GOAWAY)).stream != stream:
            assert frame.kind == Kind.RST_STREAM, frame
        return Code(int.from_bytes(frame.payload, "big"))
