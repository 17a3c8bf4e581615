"""The access log: one line a request, and at a verbose level one as it comes, as Triton has it.

    access protocol=http method=POST path=/v2/models/m/infer model=m status=200 bytes_in=204 bytes_out=310
           seconds=0.0021 request_id=r1 peer=10.0.0.7:51544

Fronts are wrapped only where the log is asked for. What it tells, it reads from what passes: the path, the body or the
first fields of a message for the model; the answer's `x-request-id` or first bytes for an id.
"""

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson
import structlog

from tritium.core.log_settings import LogSettingsControl
from tritium.wire.grpc import Bidi, Call, GrpcError, Methods, Reply, Unary
from tritium.wire.http import Buffer, Handler, Headers, Request, Response, Stream
from tritium.wire.prompt import is_prompt, prompt
from tritium.wire.status import Status

log = structlog.get_logger("tritium.access")

_MODEL: Final = re.compile(r"/v[12]/(?:repository/)?models/([^/]+)")
_NAMED_MODEL: Final = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')
"""As a request of the OpenAI API names it."""
_ID: Final = re.compile(rb'\{"id":("(?:[^"\\]|\\.)*")')
_METHODS: Final[Mapping[str, int]] = {"GET": 0, "HEAD": 1, "POST": 2, "PUT": 3, "DELETE": 4}
"""How Triton's log numbers them (libevhtp's htp_method)."""


def verbose_http(handler: Handler, settings: LogSettingsControl) -> Handler:
    """Tell of each request, and why an inference failed, in Triton's words while the verbose level is above 0."""

    def handle(request: Request) -> Any:
        return told(request) if settings.settings.verbose_level else handler(request)

    async def told(request: Request) -> Response | None:
        # Triton's sentences, which people grep for.
        log.debug(f"HTTP request: {_METHODS.get(request.method, request.method)} {request.path}")  # noqa: G004
        response = await handler(request)
        if response is not None and response.status >= HTTPStatus.BAD_REQUEST and request.path.endswith("/infer"):
            log.debug(f"Infer failed: {_error(response)}")  # noqa: G004
        return response

    return prompt(handle) if is_prompt(handler) else handle


def _error(response: Response) -> str:
    try:
        return str(orjson.loads(b"".join(response.body))["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return str(response.status)


def logged_http(handler: Handler, protocol: str) -> Handler:
    """Write a line for each request that a handler has answered."""

    async def handle(request: Request) -> Response | None:
        seen, received = _Seen(request), len(request.body)
        began = time.perf_counter()
        response = None
        try:
            response = await handler(seen)
        finally:
            status, sent, headers, head = seen.status, seen.sent_bytes, seen.sent_headers, b""
            if response is not None:
                status, sent, headers = response.status, sum(map(len, response.body)), response.headers
                head = bytes(response.body[0][:512]) if response.body else b""
            log.info(
                "access",
                protocol=protocol,
                method=request.method,
                path=request.path,
                model=_model(request),
                status=status,
                bytes_in=received,
                bytes_out=sent,
                seconds=round(time.perf_counter() - began, 6),
                request_id=_id(headers, head),
                peer=request.peer,
            )
        return response

    return prompt(handle) if is_prompt(handler) else handle


def _model(request: Request) -> str:
    """Return the model that a request is for, "" where it names none."""
    if in_path := _MODEL.match(request.path):
        return in_path[1]
    in_body = _NAMED_MODEL.search(request.body) if request.path[:4] != "/v2/" else None
    return _text(in_body[1]) if in_body else ""


def _id(headers: Headers, head: bytes) -> str:
    """Return the id that an answer carries, in its headers or at the start of its JSON; "" where it has none."""
    for name, value in headers:
        if name == b"x-request-id":
            return value.decode("latin-1")
    in_json = _ID.match(head)
    return _text(in_json[1]) if in_json else ""


def _text(literal: bytes) -> str:
    """Read a string of JSON; "" where it is none."""
    try:
        return str(orjson.loads(literal))
    except orjson.JSONDecodeError:
        return ""


def logged_grpc(methods: Methods) -> Methods:
    """Write a line for each call that a method has answered."""
    return replace(
        methods,
        unary={name: _unary(name, unary) for name, unary in methods.unary.items()},
        bidi={name: _bidi(name, bidi) for name, bidi in methods.bidi.items()},
    )


def _unary(path: str, unary: Unary) -> Unary:
    async def answer(message: bytes | memoryview, call: Call) -> Reply:
        began, status, sent = time.perf_counter(), Status.INTERNAL, 0
        try:
            reply = await unary(message, call)
            status, sent = Status.OK, _size(reply)
        except GrpcError as error:
            status = error.status
            raise
        else:
            return reply
        finally:
            request = _named(message) if path.endswith("/ModelInfer") else _Named("", "")
            _tell(path, request, status, len(message), sent, began, call)

    return answer


def _bidi(path: str, bidi: Bidi) -> Bidi:
    async def answer(messages: AsyncIterator[bytes | memoryview], call: Call) -> None:
        began, status = time.perf_counter(), Status.INTERNAL
        received, first = 0, _Named("", "")

        async def counted() -> AsyncIterator[bytes | memoryview]:
            nonlocal received, first
            async for message in messages:
                first = first if received else _named(message)
                received += len(message)
                yield message

        try:
            await bidi(counted(), call)
            status = Status.OK
        except GrpcError as error:
            status = error.status
            raise
        finally:
            _tell(path, first, status, received, None, began, call)

    return answer


class _Named(NamedTuple):
    model: str
    request_id: str


def _named(message: bytes | memoryview) -> _Named:
    """Read the model and the id of a ModelInferRequest: its fields 1 to 3, which come first."""
    fields, at, view = {1: "", 2: "", 3: ""}, 0, memoryview(message)
    while at + 2 <= len(view) and view[at] in (0x0A, 0x12, 0x1A):
        field, length = view[at] >> 3, view[at + 1]
        if length > 127:  # longer than a name or an id is worth logging
            break
        fields[field] = bytes(view[at + 2 : at + 2 + length]).decode(errors="replace")
        at += 2 + length
    return _Named(fields[1], fields[3])


def _tell(path: str, named: _Named, status: Status, received: int, sent: int | None, began: float, call: Call) -> None:
    log.info(
        "access",
        protocol="grpc",
        method=path.rpartition("/")[2],
        path=path,
        model=named.model,
        status=status.name,
        bytes_in=received,
        **({} if sent is None else {"bytes_out": sent}),
        seconds=round(time.perf_counter() - began, 6),
        request_id=named.request_id,
        peer=call.peer,
    )


def _size(reply: Reply) -> int:
    return len(reply) if isinstance(reply, bytes | memoryview) else sum(map(len, reply))


class _Seen:
    """A request that notes what is streamed in answer to it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.method = request.method
        self.path = request.path
        self.query = request.query
        self.headers: Headers = request.headers
        self.body = request.body
        self.peer = request.peer
        self.status = 0
        self.sent_headers: Headers = ()
        self.sent_bytes = 0

    def header(self, name: bytes, default: bytes = b"") -> bytes:
        return self._request.header(name, default)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        self._request.on_disconnect(callback)

    def stream(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> Stream:
        self.status, self.sent_headers = status, headers
        return _SeenStream(self, self._request.stream(status, headers))


class _SeenStream:
    """A streamed answer that is counted."""

    def __init__(self, seen: _Seen, stream: Stream) -> None:
        self._seen = seen
        self._stream = stream

    @property
    def closed(self) -> bool:
        return self._stream.closed

    def write(self, chunk: Buffer) -> None:
        self._seen.sent_bytes += len(chunk)
        self._stream.write(chunk)

    async def drain(self) -> None:
        await self._stream.drain()

    def end(self, chunk: Buffer = b"") -> None:
        self._seen.sent_bytes += len(chunk)
        self._stream.end(chunk)
