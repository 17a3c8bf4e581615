"""Floods against a whole server: it says why it hangs up, serves others, and holds no more memory than before."""

import contextlib
import socket
import struct

import grpc
import pytest
from qa.wire.transport.http2_peer import block, frames, message
from tritonclient.grpc import service_pb2 as pb

from tritium.wire.h2.frames import ACK, END_HEADERS, END_STREAM, PREFACE, Code, Kind, Setting, pack_settings

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
GROWTH_BYTES = 64 << 20
HELLO = PREFACE + pack_settings({}) + frames((Kind.SETTINGS, ACK, 0))
CALM = Code.ENHANCE_YOUR_CALM


def request(size=2):
    made = pb.ModelInferRequest(model_name="fp32", raw_input_contents=[bytes(4 * size)])
    made.inputs.add(name="INPUT0", datatype="FP32", shape=[size])
    return made


def opened(path, numbers, flags=END_HEADERS):
    return b"".join(frames((Kind.HEADERS, flags, number, block({":path": path}))) for number in numbers)


def calls(size, count):
    body = message(request(size).SerializeToString())
    return b"".join(
        opened(INFER, [number]) + frames((Kind.DATA, END_STREAM, number, body)) for number in range(1, 2 * count, 2)
    )


FLOODS = {
    "headers that never end": (
        HELLO + opened(INFER, [1], 0) + frames((Kind.CONTINUATION, 0, 1, bytes(999))) * 999,
        CALM,
    ),
    "empty continuations": (HELLO + opened(INFER, [1], 0) + frames((Kind.CONTINUATION, 0, 1, b"")) * 9999, CALM),
    "calls reset at once": (
        HELLO + b"".join(opened(STREAM, [n]) + frames((Kind.RST_STREAM, 0, n, bytes(4))) for n in range(1, 9999, 2)),
        CALM,
    ),
    "streams beyond the number that is allowed": (HELLO + opened(STREAM, range(1, 9999, 2)), CALM),
    "settings": (HELLO + pack_settings({Setting.INITIAL_WINDOW_SIZE: 9}) * 9999, CALM),
    "pings": (HELLO + frames((Kind.PING, 0, 0, bytes(8))) * 9999, CALM),
    "garbage": (HELLO + bytes(range(255, 0, -1)) * 99, Code.FRAME_SIZE_ERROR),
    "not even a preface": (b"\x16\x03\x01" + bytes(999), None),
    "answers that nobody takes": (
        PREFACE + pack_settings({Setting.INITIAL_WINDOW_SIZE: 0}) + frames((Kind.SETTINGS, ACK, 0)) + calls(4000, 400),
        None,
    ),
    "messages that never come": (
        HELLO
        + b"".join(
            opened(INFER, [n]) + frames((Kind.DATA, 0, n, struct.pack(">BL", 0, (1 << 31) - 1)))
            for n in range(1, 999, 2)
        ),
        None,
    ),
}


def flood(port, data, patience_s):
    """Send all that the server takes; return the code of its GOAWAY, or None when none comes in time."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), 10) as peer, contextlib.suppress(OSError):
        peer.settimeout(patience_s)
        with contextlib.suppress(OSError):
            peer.sendall(data)
        while piece := peer.recv(1 << 16):
            received += piece
    code = None
    while len(received) >= 9:
        size = int.from_bytes(received[:3], "big")
        if received[3] == Kind.GOAWAY:
            code = Code(int.from_bytes(received[13:17], "big"))
        del received[: 9 + size]
    return code


@pytest.fixture(scope="module")
def infer(server):
    """Ask for an inference as a client that behaves."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        yield lambda: channel.unary_unary(INFER)(request().SerializeToString(), timeout=60)


@pytest.mark.parametrize("name", FLOODS)
def test_flood(server, infer, name):
    """Ten times over: the reason is given, others are served, and memory stays where the first flood left it."""
    data, expected = FLOODS[name]
    patience_s = 0.2 if expected is None else 10  # some floods are borne in silence
    assert flood(server.grpc, data, patience_s) == expected
    infer()
    resident = server.resident_bytes()
    for _ in range(9):
        flood(server.grpc, data, patience_s)
        infer()
    assert server.resident_bytes() - resident < GROWTH_BYTES
    assert server.faults() == []


def test_connections_that_say_little(server, infer):
    """Two hundred clients in the middle of a frame keep nobody waiting, and are forgotten when they leave."""
    descriptors = server.descriptors()
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", server.grpc), 10))
            peer.sendall((HELLO + calls(2, 1))[:-7])
        infer()
    for _ in range(100):
        infer()
        if server.descriptors() <= descriptors + 1:
            break
    assert server.descriptors() <= descriptors + 1
