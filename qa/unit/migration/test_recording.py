"""The proxy: bytes pass as they are, calls are written down without what is secret, and a client's leaving is told."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from qa.own_certificate import own_certificate

from tritium.compat.protobufs import service_pb2
from tritium.migration.comparing.call import Captured
from tritium.migration.comparing.tensor import joined
from tritium.migration.recording.file import BadRecording, Recorded, RecordingFile, read
from tritium.migration.recording.recorder import BadAddress, Recorder, Way, way
from tritium.migration.recording.redaction import Redaction, masked

BOUND_S = 60
MIB = 1 << 20
INFER = "/v2/models/add/infer"
SERVICE = "/inference.GRPCInferenceService/"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def recording(
    path: Path, handler: Handler, *, most_bytes: int = MIB, most_body: int = MIB, redact_text: bool = False
) -> AsyncIterator[tuple[Recorder, int]]:
    """Run a server of bytes and the proxy before it; yield the recorder and the proxy's port."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    one = Way("http", "127.0.0.1", server.sockets[0].getsockname()[1], "127.0.0.1", 0)
    recorder = Recorder([one], path, most_bytes=most_bytes, most_body=most_body, redact_text=redact_text)
    [url] = await recorder.start()
    try:
        yield recorder, int(url.rpartition(":")[2])
    finally:
        await recorder.stop()
        server.close()
        await server.wait_closed()


def request(body: bytes, path: str = INFER, extra: str = "") -> bytes:
    """Return a request with credentials."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer abc\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def ask(port: int, sent: bytes, size: int) -> bytes:
    """Send bytes and return so many of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.readexactly(size), BOUND_S)
    writer.close()
    await writer.wait_closed()
    return answer


def answering(expected: bytes, answer: bytes, seen: list[bytes]) -> Handler:
    """Return a server that answers each request of known bytes with known bytes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readexactly(len(expected)))
        writer.write(answer)
        await writer.drain()
        await reader.read()
        writer.close()

    return handle


async def test_bytes_pass_untouched_and_calls_are_kept(tmp_path: Path) -> None:
    """Request and answer arrive byte for byte; the file has bodies and no credentials."""
    sent = request(b'{"inputs": []}')
    answer = b'HTTP/1.1 200 OK\r\nX-Odd:  spaced \r\nContent-Length: 15\r\n\r\n{"outputs": []}'
    seen: list[bytes] = []
    async with recording(tmp_path / "r", answering(sent, answer, seen)) as (recorder, port):
        assert await ask(port, sent, len(answer)) == answer
    assert seen == [sent]
    assert recorder.file.written == 1
    text = (tmp_path / "r").read_text()
    assert "Bearer" not in text
    assert '"response": ["{\\"outputs\\": []}"]' in text
    [call] = read(tmp_path / "r").calls
    assert (call.model, call.path, call.messages) == ("add", INFER, (b'{"inputs": []}',))


async def test_what_is_no_inference_is_not_written(tmp_path: Path) -> None:
    """Health, metadata, and above all loading and unloading pass unrecorded."""
    sent = request(b"{}", "/v2/repository/models/add/unload")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with recording(tmp_path / "r", answering(sent, answer, [])) as (recorder, port):
        await ask(port, sent, len(answer))
    assert recorder.file.written == 0


async def test_large_bodies_pass_and_are_not_kept(tmp_path: Path) -> None:
    """A body over the bound arrives whole; the file says why it cannot be sent again."""
    body = b"x" * (3 * MIB)
    sent, answer = request(body), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    seen: list[bytes] = []
    async with recording(tmp_path / "r", answering(sent, answer, seen)) as (recorder, port):
        await ask(port, sent, len(answer))
    assert seen == [sent]
    assert recorder.unusable == 1
    assert read(tmp_path / "r").calls[0].refused == "its body was larger than --most-body"


async def test_a_stream_passes_event_by_event(tmp_path: Path) -> None:
    """The first event reaches the client while the server still holds the second back."""
    go = asyncio.Event()
    sent = request(b'{"text_input": "hi"}', "/v2/models/chat/generate_stream")

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(sent))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"9\r\ndata: 1\n\n\r\n")
        await asyncio.wait_for(go.wait(), BOUND_S)
        writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        await reader.read()
        writer.close()

    async with recording(tmp_path / "r", handle) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await asyncio.wait_for(reader.readuntil(b"data: 1\n\n"), BOUND_S)
        go.set()
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), BOUND_S)
        writer.close()
        await writer.wait_closed()
    line = json.loads((tmp_path / "r").read_text().splitlines()[1])
    assert line["response"] == ["data: 1\n\ndata: 2\n\n"]


async def test_the_server_hears_that_a_client_left(tmp_path: Path) -> None:
    """A client that closes ends the server's connection, so that the server can cancel."""
    asked, left = asyncio.Event(), asyncio.Event()
    sent = request(b"{}")

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(sent))
        asked.set()
        await reader.read()
        left.set()
        writer.close()

    async with recording(tmp_path / "r", handle) as (_, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await asyncio.wait_for(asked.wait(), BOUND_S)
        writer.close()
        await asyncio.wait_for(left.wait(), BOUND_S)


async def test_an_end_with_clients_connected_is_quiet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A client that keeps its connection is closed when the recording stops, and nothing is logged as an error."""
    sent, answer = request(b"{}"), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with recording(tmp_path / "r", answering(sent, answer, [])) as (recorder, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await asyncio.wait_for(reader.readexactly(len(answer)), BOUND_S)
        await recorder.stop()
        assert await asyncio.wait_for(reader.read(), BOUND_S) == b""
        writer.close()
        await writer.wait_closed()
    assert recorder.file.written == 1
    assert caplog.records == []


async def test_no_server_is_said(tmp_path: Path) -> None:
    """A client gets 502 with the reason where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    one = Way("http", "127.0.0.1", port, "127.0.0.1", 0)
    recorder = Recorder([one], tmp_path / "r", most_bytes=MIB, most_body=MIB, redact_text=False)
    [url] = await recorder.start()
    answer = await ask(int(url.rpartition(":")[2]), request(b"{}"), 12)
    await recorder.stop()
    assert answer == b"HTTP/1.1 502"


class _Grpc(grpc.GenericRpcHandler):
    """A gRPC server that streams two answers and then waits to be cancelled, or refuses."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.metadata: dict[str, str] = {}

    def service(self, details):
        async def handle(requests, context):
            self.metadata = dict(context.invocation_metadata())
            async for raw in requests:
                asked = service_pb2.ModelInferRequest.FromString(raw)
                if asked.model_name == "bad":
                    await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
                for number in range(2):
                    answer = service_pb2.ModelInferResponse(id=f"{asked.id}{number}")
                    yield answer.SerializeToString()
                    if details.method.endswith("/ModelInfer"):
                        return
                if asked.model_name == "hangs":
                    try:
                        await asyncio.Event().wait()
                    finally:
                        self.cancelled.set()

        return grpc.stream_stream_rpc_method_handler(handle)


@asynccontextmanager
async def recording_grpc(path: Path) -> AsyncIterator[tuple[_Grpc, grpc.aio.Channel]]:
    """Run a gRPC server and the proxy before it; yield the server and a channel to the proxy."""
    behind = _Grpc()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((behind,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    recorder = Recorder(
        [Way("grpc", "127.0.0.1", port, "127.0.0.1", 0)], path, most_bytes=MIB, most_body=MIB, redact_text=False
    )
    [url] = await recorder.start()
    async with grpc.aio.insecure_channel(url.removeprefix("grpc://")) as channel:
        yield behind, channel
    await recorder.stop()
    await server.stop(None)


async def test_grpc_calls_pass_and_are_kept(tmp_path: Path) -> None:
    """One answer, a stream, a refusal and metadata arrive as they are, and all three calls are written down."""
    async with recording_grpc(tmp_path / "r") as (behind, channel):
        raw = service_pb2.ModelInferRequest(model_name="add", id="a").SerializeToString()
        answer = await channel.unary_unary(SERVICE + "ModelInfer")(raw, metadata=[("x-team", "red")], timeout=BOUND_S)
        assert service_pb2.ModelInferResponse.FromString(answer).id == "a0"
        assert behind.metadata["x-team"] == "red"
        stream = channel.stream_stream(SERVICE + "ModelStreamInfer")(iter([raw]), timeout=BOUND_S)
        assert len([one async for one in stream]) == 2
        bad = service_pb2.ModelInferRequest(model_name="bad").SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(SERVICE + "ModelInfer")(bad, timeout=BOUND_S)
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such model")
    assert [(call.model, call.path.rpartition("/")[2]) for call in read(tmp_path / "r").calls] == [
        ("add", "ModelInfer"),
        ("add", "ModelStreamInfer"),
        ("bad", "ModelInfer"),
    ]


async def test_a_cancelled_grpc_call_is_cancelled_behind(tmp_path: Path) -> None:
    """The server's call ends when the client leaves its stream."""
    async with recording_grpc(tmp_path / "r") as (behind, channel):
        raw = service_pb2.ModelInferRequest(model_name="hangs").SerializeToString()
        call = channel.stream_stream(SERVICE + "ModelStreamInfer")(iter([raw]), timeout=BOUND_S)
        await call.read()
        call.cancel()
        await asyncio.wait_for(behind.cancelled.wait(), BOUND_S)


def recorded(body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> Recorded:
    """Return a call over HTTP with its answer."""
    call = Captured("http", "m", "", f"{INFER}?token=secret99", headers, (body,))
    return Recorded(call, (b'{"outputs": [{"name": "y", "datatype": "BYTES", "data": ["Ann 7"]}]}',), "ok", 0.1)


def test_secrets_are_covered_and_other_bodies_kept() -> None:
    """Tokens in texts and addresses go; a body without any stays as it was, byte for byte."""
    plain = b'{"inputs":[ ],  "x": 1.0}'
    assert Redaction(without_text=False).applied(recorded(plain)).call.messages == (plain,)
    found = Redaction(without_text=False).applied(recorded(b'{"text_input": "key hf_abcdefghijkl"}'))
    assert b"hf_abc" not in found.call.messages[0]
    assert "secret99" not in found.call.path


def test_text_is_taken_out_on_demand() -> None:
    """In JSON and behind it, with shapes, sizes and settings as they were; the call still is one."""
    data = joined([b"Ann Lee", "é1".encode()])
    header = json.dumps({
        "inputs": [{"name": "t", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(data)}}]
    }).encode()  # fmt: skip
    length = (("Inference-Header-Content-Length", str(len(header))), ("Cookie", "a=b"))
    found = Redaction(without_text=True).applied(recorded(header + data, length))
    headers = dict(found.call.headers)
    assert list(headers) == ["inference-header-content-length"]
    size = int(headers["inference-header-content-length"])
    [tensor] = json.loads(found.call.messages[0][:size])["inputs"]
    binary = found.call.messages[0][size:]
    assert (tensor["name"], tensor["datatype"], tensor["parameters"]["binary_data_size"]) == ("t", "BYTES", len(binary))
    assert binary == joined([b"xxx xxx", b"x0"])
    assert b"Ann" not in found.responses[0]
    assert masked("a-1 é") == "x-0 x"


def test_the_file_is_bounded(tmp_path: Path) -> None:
    """What does not fit is counted; what is there can be read."""
    file = RecordingFile(tmp_path / "r", 700)
    kept = [file.append(recorded(b"{}")) for _ in range(5)]
    file.close()
    assert kept[0]
    assert not kept[-1]
    assert (tmp_path / "r").stat().st_size <= 700
    assert len(read(tmp_path / "r").calls) == file.written == 5 - file.left_out


@pytest.mark.parametrize("cut", [0, 5])
def test_a_recording_goes_on_where_it_ended(tmp_path: Path, cut: int) -> None:
    """A recorder that is started again overwrites nothing, whether the last one was killed within a call or not."""
    for calls in (2, 3):
        file = RecordingFile(tmp_path / "r", MIB)
        for _ in range(calls):
            file.append(recorded(b"{}"))
        file.close()
        if calls == 2 and cut:
            (tmp_path / "r").write_bytes((tmp_path / "r").read_bytes()[:-cut])
    found = read(tmp_path / "r")
    assert len(found.calls) == file.written == (4 if cut else 5)
    assert not found.cut_off


def test_what_is_no_recording_is_not_overwritten(tmp_path: Path) -> None:
    """A file that was named by mistake stays as it was."""
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(BadRecording, match="notes"):
        RecordingFile(tmp_path / "notes", MIB)
    assert (tmp_path / "notes").read_text() == "mine"


def test_bytes_survive_the_file(tmp_path: Path) -> None:
    """A body that is no text comes back as it was."""
    file = RecordingFile(tmp_path / "r", MIB)
    file.append(recorded(b"\xff\x00\n"))
    file.close()
    assert read(tmp_path / "r").calls[0].messages == (b"\xff\x00\n",)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tritium_record": 2}', '{"tritium_record": 1}\n{"a": 1}\n'])
def test_what_is_no_recording_is_refused(tmp_path: Path, text: str) -> None:
    """With the file's name in the message."""
    (tmp_path / "r").write_text(text)
    with pytest.raises(BadRecording, match=str(tmp_path)):
        read(tmp_path / "r")


def test_a_file_whose_writer_was_killed_lacks_its_last_call_alone(tmp_path: Path) -> None:
    """Cut anywhere within its last line, the calls before it are read, and the cut is told."""
    file = RecordingFile(tmp_path / "r", MIB)
    for _ in range(3):
        file.append(recorded(b"{}"))
    # Not closed: what was appended is in the file already.
    whole = (tmp_path / "r").read_bytes()
    last = whole.rstrip(b"\n").rpartition(b"\n")[2]
    for missing in (1, 2, len(last)):
        (tmp_path / "cut").write_bytes(whole[:-missing])
        found = read(tmp_path / "cut")
        assert (len(found.calls), found.cut_off) == (2, True)
    assert (len(read(tmp_path / "r").calls), read(tmp_path / "r").cut_off) == (3, False)
    file.close()


async def test_calls_of_openais_api_are_kept(tmp_path: Path) -> None:
    """Chat, completions and embeddings, by the model that the body names; the list of models is not."""
    body = b'{"model": "chat", "messages": [], "api_key": "0123456789"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    for count, path in enumerate(("/v1/chat/completions", "/v1/completions", "/v1/embeddings"), 1):
        sent = request(body, path)
        async with recording(tmp_path / "r", answering(sent, answer, [])) as (_, port):
            await ask(port, sent, len(answer))
        *before, call = read(tmp_path / "r").calls
        assert len(before) == count - 1
        assert (call.protocol, call.model, call.path) == ("openai", "chat", path)
        assert b"0123456789" not in call.messages[0]
    sent = request(b"", "/v1/models")
    async with recording(tmp_path / "other", answering(sent, answer, [])) as (recorder, port):
        await ask(port, sent, len(answer))
    assert recorder.file.written == 0


@pytest.mark.parametrize("known", [True, False])
async def test_a_server_behind_tls(tmp_path: Path, *, known: bool) -> None:
    """Clients without TLS reach it where --cafile knows its certificate, and are told why where it does not."""
    certificate, key = own_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    sent, answer = request(b"{}"), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    server = await asyncio.start_server(answering(sent, answer, []), "127.0.0.1", 0, ssl=tls)
    one = Way("https", "127.0.0.1", server.sockets[0].getsockname()[1], "127.0.0.1", 0)
    cafile = certificate if known else None
    recorder = Recorder([one], tmp_path / "r", most_bytes=MIB, most_body=MIB, redact_text=False, cafile=cafile)
    [url] = await recorder.start()
    said = await ask(int(url.rpartition(":")[2]), sent, 12)
    await recorder.stop()
    server.close()
    await server.wait_closed()
    assert said == (b"HTTP/1.1 200" if known else b"HTTP/1.1 502")
    assert recorder.file.written == int(known)


@pytest.mark.parametrize(("url", "listen"), [("host:8000", "a:1"), ("http://h", "here"), ("http://h/v2", "a:1")])
def test_bad_addresses_are_refused(url: str, listen: str) -> None:
    """Without a scheme, without a port, with a path."""
    with pytest.raises(BadAddress):
        way(url, listen)
