"""The access log: one line a request of any protocol, and Triton's line as a request comes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs
from tritonclient.grpc import service_pb2

from tritium.compat.v2.log_setting import LogUpdate
from tritium.core.log_settings import LogSettingsBook
from tritium.observe.access import logged_grpc, logged_http, verbose_http
from tritium.wire.grpc import GrpcError, Methods, Reply
from tritium.wire.http import Headers, Request, Response, Stream
from tritium.wire.status import Status

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@dataclass
class Chunks:
    """A streamed answer."""

    sent: bytes = b""
    closed: bool = False

    def write(self, chunk: bytes) -> None:
        self.sent += chunk

    async def drain(self) -> None: ...

    def end(self, chunk: bytes = b"") -> None:
        self.sent += chunk


@dataclass
class Post:
    """A request."""

    path: str
    method: str = "POST"
    query: str = ""
    headers: Headers = ()
    body: bytes = b"{}"
    peer: str = "10.0.0.7:1"
    chunks: Chunks = field(default_factory=Chunks)

    def header(self, name: bytes, default: bytes = b"") -> bytes:
        return default

    def on_disconnect(self, callback: object) -> None: ...

    def stream(self, status: int, headers: Headers) -> Stream:
        return self.chunks


@dataclass
class Call:
    """A call."""

    method: str = ""
    metadata: Sequence[tuple[bytes, bytes]] = ()
    peer: str = "10.0.0.7:2"
    deadline_s: float | None = None


def without_time(events: list[Any]) -> list[dict[str, Any]]:
    """Return what was logged, but for how long it took, which is some time."""
    for event in events:
        assert event.pop("seconds") >= 0
        assert (event.pop("event"), event.pop("log_level")) == ("access", "info")
    return events


async def test_an_http_request_is_a_line() -> None:
    """Model and id, where there are any."""

    async def infer(request: Request) -> Response:
        return Response(200, (), (b'{"id":"r\\"1","model_name":"m"}', b"1234"))

    with capture_logs() as events:
        await logged_http(infer, "http")(Post("/v2/models/m/versions/1/infer", body=b"12345678"))  # type: ignore[arg-type]
    assert without_time(events) == [
        {
            "protocol": "http",
            "method": "POST",
            "path": "/v2/models/m/versions/1/infer",
            "model": "m",
            "status": 200,
            "bytes_in": 8,
            "bytes_out": 34,
            "request_id": 'r"1',
            "peer": "10.0.0.7:1",
        }
    ]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_line_of_the_openai_api_has_the_model_of_the_body_and_the_id_of_the_headers(*, streamed: bool) -> None:
    """Where clients put the one, and the server the other, whichever way it answers."""
    body = b'{"messages": [{"role": "user", "content": "\\"model\\": \\"x\\""}], "model" : "gr\\u00fcn/8b"}'

    async def chat(request: Request) -> Response | None:
        headers = ((b"content-type", b"application/json"), (b"x-request-id", b"r7"))
        if not streamed:
            return Response(429, headers, (b"{}",))
        request.stream(429, headers).end(b"{}")
        return None

    with capture_logs() as events:
        await logged_http(chat, "openai")(Post("/v1/chat/completions", body=body))  # type: ignore[arg-type]
    (event,) = without_time(events)
    assert (event["model"], event["request_id"], event["status"]) == ("grün/8b", "r7", 429)


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        ("/v1/models/m/load", b"", "m"),
        ("/v1/embeddings", b'{"input": "\xff", "model": "\xff"}', ""),
        ("/v2/logging", b'{"model": "x"}', ""),
    ],
)
async def test_a_line_has_the_model_that_a_request_names(path: str, body: bytes, model: str) -> None:
    """In its path or, of the OpenAI API, in its body; what cannot be read is none."""

    async def answer(request: Request) -> Response:
        return Response(200, (), (b"{}",))

    with capture_logs() as events:
        await logged_http(answer, "openai")(Post(path, body=body))  # type: ignore[arg-type]
    assert without_time(events)[0]["model"] == model


async def test_a_streamed_answer_is_a_line_at_its_end() -> None:
    """With its status, and all its bytes."""

    async def generate(request: Request) -> None:
        stream = request.stream(400, ())
        stream.write(b"123")
        await stream.drain()
        stream.end(b"45")

    post = Post("/v2/models/m/generate_stream")
    with capture_logs() as events:
        await logged_http(generate, "http")(post)  # type: ignore[arg-type]
    (event,) = without_time(events)
    assert (event["status"], event["bytes_out"], event["request_id"]) == (400, 5, "")
    assert post.chunks.sent == b"12345"


async def test_a_request_whose_handler_fails_is_a_line_too() -> None:
    """The fault goes on to whom it concerns."""

    async def fail(request: Request) -> Response:
        raise RuntimeError("boom")

    with capture_logs() as events, pytest.raises(RuntimeError):
        await logged_http(fail, "http")(Post("/v2"))  # type: ignore[arg-type]
    (event,) = without_time(events)
    assert (event["status"], event["model"]) == (0, "")


async def test_a_grpc_call_is_a_line() -> None:
    """Its model and id are read from the message, its status is by name."""
    message = service_pb2.ModelInferRequest(model_name="m", model_version="3", id="r7")
    message.parameters["sequence_id"].int64_param = 1

    async def infer(message: bytes | memoryview, call: Any) -> Reply:
        return [b"12", b"345"]

    async def refuse(message: bytes | memoryview, call: Any) -> Reply:
        raise GrpcError(Status.NOT_FOUND, "no")

    sent = message.SerializeToString()
    with capture_logs() as events:
        await logged_grpc(Methods({INFER: infer})).unary[INFER](sent, Call())  # type: ignore[arg-type]
        with pytest.raises(GrpcError):
            await logged_grpc(Methods({INFER: refuse})).unary[INFER](b"\xff\xff", Call())  # type: ignore[arg-type]
    first, second = without_time(events)
    assert first == {
        "protocol": "grpc",
        "method": "ModelInfer",
        "path": INFER,
        "model": "m",
        "status": "OK",
        "bytes_in": len(sent),
        "bytes_out": 5,
        "request_id": "r7",
        "peer": "10.0.0.7:2",
    }
    assert (second["status"], second["model"], second["bytes_out"]) == ("NOT_FOUND", "", 0)


async def test_a_grpc_stream_is_a_line() -> None:
    """Of its first request, with the bytes of all."""
    message = service_pb2.ModelInferRequest(model_name="m", id="a").SerializeToString()

    async def messages() -> AsyncIterator[bytes | memoryview]:
        yield message
        yield message

    async def stream(messages: AsyncIterator[bytes | memoryview], call: Any) -> None:
        async for _ in messages:
            pass

    with capture_logs() as events:
        await logged_grpc(Methods(bidi={STREAM: stream})).bidi[STREAM](messages(), Call())  # type: ignore[arg-type]
    (event,) = without_time(events)
    assert (event["model"], event["request_id"], event["bytes_in"]) == ("m", "a", 2 * len(message))


async def test_a_verbose_log_says_why_an_inference_failed() -> None:
    """As the client was told; other requests that fail are told by their line alone."""

    async def refuse(request: Request) -> Response:
        return Response(400, (), (b'{"error":"no such input"}',))

    book = LogSettingsBook()
    book.update(LogUpdate(verbose_level=1))
    with capture_logs() as events:
        await verbose_http(refuse, book)(Post("/v2/models/m/infer"))  # type: ignore[arg-type]
        await verbose_http(refuse, book)(Post("/v2/models/m/ready"))  # type: ignore[arg-type]
    assert [event["event"] for event in events] == [
        "HTTP request: 2 /v2/models/m/infer",
        "Infer failed: no such input",
        "HTTP request: 2 /v2/models/m/ready",
    ]


async def test_requests_are_told_as_they_come_while_the_log_is_verbose() -> None:
    """In Triton's words and numbers, from when the level is raised."""

    async def handle(request: Request) -> Response:
        return Response()

    book = LogSettingsBook()
    told = verbose_http(handle, book)
    with capture_logs() as events:
        await told(Post("/v2/logging"))  # type: ignore[arg-type]
        book.update(LogUpdate(verbose_level=1))
        await told(Post("/v2/logging"))  # type: ignore[arg-type]
        await told(Post("/v2", method="GET"))  # type: ignore[arg-type]
    assert [event["event"] for event in events] == ["HTTP request: 2 /v2/logging", "HTTP request: 0 /v2"]
