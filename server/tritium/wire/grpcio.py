"""The same table of methods on grpcio's own asyncio server: the reference our HTTP/2 is tested against, and a way back.

grpcio carries the bytes; names, statuses and cancellation mean what they mean in `wire.h2`, but for one thing: it may
report a cancelled stream of requests as one that ended well, when the news of the end overtakes that of the cancel.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Never, TypeVar

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import grpc.aio  # type: ignore[import-untyped]  # likewise
import structlog

from tritium.wire.address import bind
from tritium.wire.errors import TlsError
from tritium.wire.gate import Gate
from tritium.wire.grpc import Bidi, Call, Effort, GrpcError, GrpcLimits, Keepalive, Methods, Reply, Unary
from tritium.wire.status import Status
from tritium.wire.tls import Tls

UNREAD_MESSAGES = 16
"""Requests that wait for a streaming handler; grpcio's flow control holds back more."""

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_COMPRESSION = {
    Effort.NONE: None,
    Effort.LOW: grpc.Compression.Gzip,
    Effort.MEDIUM: grpc.Compression.Deflate,
    Effort.HIGH: grpc.Compression.Deflate,
}
_END = object()
T = TypeVar("T")

log = structlog.get_logger("tritium.wire")


class GrpcioListener:
    """A Listener on grpcio's server."""

    def __init__(self, server: grpc.aio.Server, leaving: asyncio.Event, host: str, port: int, tls: Tls | None) -> None:
        self.host = host
        self.port = port
        self._server = server
        self._leaving = leaving
        self._tls = tls
        self._begun = False

    @classmethod
    async def start(
        cls, methods: Methods, *, host: str, port: int, limits: GrpcLimits, tls: Tls | None, shared: bool
    ) -> "GrpcioListener":
        """Open the port; `limits` gives the size of messages and the number of calls.

        Raises:
            ListenError: The address is taken, forbidden or not this machine's.
            TlsError: The certificates cannot be used.
        """
        # grpcio reports every failure to bind in the same words; ours tell them apart.
        sockets = await bind(host, port, shared=shared)
        port = sockets[0].getsockname()[1]
        for sock in sockets:
            sock.close()
        leaving = asyncio.Event()
        server = grpc.aio.server(
            handlers=(_Table(methods, leaving),),
            # Its asyncio server cannot compress by method, so here the small answers are compressed as well.
            compression=_COMPRESSION[methods.effort] if methods.compressed else None,
            options=(
                ("grpc.so_reuseport", int(shared)),
                *_channel_arguments(limits.keepalive),
                ("grpc.max_receive_message_length", limits.message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", limits.header_bytes),
                ("grpc.max_concurrent_streams", limits.concurrent_streams),
            ),
        )
        listener = cls(server, leaving, host, port, tls)
        if not shared:
            await listener.begin()
        return listener

    async def begin(self) -> None:
        """Take connections; where the port is shared, once this is called from outside."""
        if self._begun:
            return
        self._begun = True
        host, port, tls = self.host, self.port, self._tls
        address = f"[{host}]:{port}" if ":" in host else f"{host or '0.0.0.0'}:{port}"  # noqa: S104  # "" asks for all
        if tls is None:
            self._server.add_insecure_port(address)
        else:
            self._server.add_secure_port(address, _credentials(tls))
        await self._server.start()

    async def close(self, grace_s: float) -> None:
        """Stop accepting, let calls in flight finish for up to `grace_s` seconds, then end what is left."""
        self._leaving.set()
        await self._server.stop(grace_s)


def _channel_arguments(keepalive: Keepalive) -> Iterator[tuple[str, int]]:
    """Name what is asked for; what is not keeps grpcio's own value."""
    strikes = keepalive.strikes
    for name, seconds in (
        ("grpc.keepalive_time_ms", keepalive.ping_s),
        ("grpc.keepalive_timeout_ms", keepalive.answer_s),
        ("grpc.http2.min_ping_interval_without_data_ms", keepalive.client_ping_s if strikes else 0),
        ("grpc.max_connection_age_ms", keepalive.age_s),
        ("grpc.max_connection_age_grace_ms", keepalive.age_grace_s),
    ):
        if seconds:
            yield name, round(seconds * 1000)
    yield "grpc.keepalive_permit_without_calls", int(keepalive.without_calls)
    yield "grpc.http2.max_pings_without_data", keepalive.pings_without_data
    yield "grpc.http2.max_ping_strikes", strikes


class _Table(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Finds the handler of a method by its path."""

    def __init__(self, methods: Methods, leaving: asyncio.Event) -> None:
        self._leaving = leaving
        self._methods: dict[str, grpc.RpcMethodHandler] = {}
        for path, unary in methods.unary.items():
            self._methods[path] = grpc.unary_unary_rpc_method_handler(_unary(path, unary, leaving))
        for path, bidi in methods.bidi.items():
            self._methods[path] = grpc.stream_stream_rpc_method_handler(_bidi(path, bidi, leaving))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return the handler; an unknown method gets one that says so."""
        path: str = handler_call_details.method
        unknown = _bidi(path, _unimplemented, self._leaving)
        return self._methods.get(path) or grpc.stream_stream_rpc_method_handler(unknown)


class _Call:
    """A `wire.grpc.Call` over grpcio's context."""

    def __init__(self, context: Any, method: str, leaving: asyncio.Event) -> None:
        self._leaving = leaving
        self.method = method
        self.metadata: Sequence[tuple[bytes, bytes]] = [
            (_bytes(key), _bytes(value)) for key, value in context.invocation_metadata()
        ]
        self.peer = context.peer()
        self.deadline_s: float | None = context.time_remaining()
        self.cancelled = False
        self.outgoing: asyncio.Queue[Any] = asyncio.Queue()
        self.gate = Gate()
        self.unsent_bytes = 0
        """How much of what was written waits for the client."""
        self._incoming: asyncio.Queue[Any] = asyncio.Queue(UNREAD_MESSAGES)
        self._callbacks: list[Callable[[], None]] = []

    @property
    def server_leaves(self) -> bool:
        """Tell whether the server is shutting down."""
        return self._leaving.is_set()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call back when the call is cancelled; at once if it already is."""
        if self.cancelled:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self._callbacks.append(callback)

    def write(self, message: Reply) -> None:
        """Queue one message of a streaming response."""
        if not self.cancelled:
            joined = _joined(message)
            self.unsent_bytes += len(joined)
            self.outgoing.put_nowait(joined)
            self.gate.close()

    async def drain(self) -> None:
        """Wait until grpcio has taken what was written."""
        await self.gate.passed()

    def __aiter__(self) -> "_Call":
        """Iterate over the requests of a streaming call."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next request."""
        if not self.cancelled:
            message = await self._incoming.get()
            if isinstance(message, bytes):
                return message
        if self.cancelled:
            raise GrpcError(Status.CANCELLED, "the call was cancelled")
        self._incoming.put_nowait(_END)
        raise StopAsyncIteration

    async def receive(self, requests: AsyncIterator[bytes]) -> None:
        """Pass requests on to the handler, at its pace."""
        async for request in requests:
            await self._incoming.put(request)
        await self._incoming.put(_END)

    def leave(self, handler: "asyncio.Task[Any]") -> None:
        """Tell the handler, if it still runs, that nobody waits any more."""
        if handler.done():
            return
        self.cancelled = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            asyncio.get_running_loop().call_soon(callback)
        while not self._incoming.empty():
            self._incoming.get_nowait()
        self._incoming.put_nowait(_END)
        self.gate.open()


_handlers: set[asyncio.Task[Any]] = set()
"""Handlers outlive a call that was cancelled, as they do in `wire.h2`; this keeps them alive."""


def _unary(path: str, handler: Unary, leaving: asyncio.Event) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def run(request: bytes, context: Any) -> bytes:
        call = _Call(context, path, leaving)
        work = _start(_reply(handler, request, call))
        try:
            return await asyncio.shield(work)
        except GrpcError as error:
            await _abort(context, error)
        finally:
            call.leave(work)

    return run


def _bidi(path: str, handler: Bidi, leaving: asyncio.Event) -> Callable[[AsyncIterator[bytes], Any], Awaitable[None]]:
    async def run(requests: AsyncIterator[bytes], context: Any) -> None:
        call = _Call(context, path, leaving)
        work = _start(_stream(handler, call))
        reader = asyncio.create_task(call.receive(requests))
        try:
            while (message := await call.outgoing.get()) is not _END:
                await context.write(message)
                call.unsent_bytes -= len(message)
                if call.outgoing.empty():
                    call.gate.open()
            await asyncio.shield(work)
        except GrpcError as error:
            await _abort(context, error)
        finally:
            reader.cancel()
            call.leave(work)

    return run


async def _unimplemented(requests: AsyncIterator[bytes | memoryview], call: Call) -> None:  # noqa: ARG001  # a Bidi
    raise GrpcError(Status.UNIMPLEMENTED, "")


def _start(work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    task = asyncio.create_task(work)
    _handlers.add(task)
    task.add_done_callback(_handlers.discard)
    return task


async def _reply(handler: Unary, request: bytes, call: _Call) -> bytes:
    try:
        return _joined(await handler(request, call))
    except GrpcError:
        raise
    except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001  # however it ends, its call ends with it
        raise _reported(call, fault) from None


async def _stream(handler: Bidi, call: _Call) -> None:
    try:
        await handler(call, call)
    except GrpcError:
        raise
    except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001  # however it ends, its call ends with it
        raise _reported(call, fault) from None
    finally:
        call.outgoing.put_nowait(_END)


def _reported(call: _Call, fault: BaseException) -> GrpcError:
    if isinstance(fault, asyncio.CancelledError):
        return GrpcError(Status.CANCELLED, "what the call waited for was cancelled")
    log.error("grpc_handler_failed", method=call.method, exc_info=fault)
    return GrpcError(Status.UNKNOWN, f"unexpected {type(fault).__name__}: {fault}")


async def _abort(context: Any, error: GrpcError) -> Never:
    await context.abort(_CODES[error.status], error.message)
    raise AssertionError("context.abort always raises")


def _joined(message: Reply) -> bytes:
    if isinstance(message, bytes):
        return message
    return bytes(message) if isinstance(message, memoryview) else b"".join(message)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    tls.context()  # checks the files, with an error that names them
    try:
        pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
        authority = tls.client_ca.read_bytes() if tls.client_ca else None
    except OSError as error:
        raise TlsError(f"cannot read {error.filename}: {error.strerror}") from error
    return grpc.ssl_server_credentials((pair,), authority, require_client_auth=authority is not None)
