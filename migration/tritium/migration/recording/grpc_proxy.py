"""A proxy for gRPC that hands messages on as bytes, call by call, and keeps those of inferences.

A call has its client's metadata and deadline; when the client leaves, the server's call is cancelled.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio is not typed
import grpc.aio  # type: ignore[import-untyped]  # grpcio is not typed

from tritium.compat.protobufs import service_pb2
from tritium.migration.comparing.call import Captured
from tritium.migration.recording.file import Recorded
from tritium.migration.recording.http_proxy import Keep

_INFERENCES = {"/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelStreamInfer"}
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
# grpcio sets these itself.
_OWN = ("user-agent", "grpc-", "content-type", "te", ":")


class GrpcProxy(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio is not typed
    """A proxy in front of one server; `keep` is given every inference that passed."""

    def __init__(self, scheme: str, place: str, most_bytes: int, keep: Keep, cafile: Path | None = None) -> None:
        self._scheme, self._place = scheme, place
        self._authorities = cafile.read_bytes() if cafile else None
        self._most_bytes, self._keep = most_bytes, keep
        self._channel: Any = None
        self._server: Any = None

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port, which is a free one where 0 is asked for."""
        if self._scheme == "grpcs":
            self._channel = grpc.aio.secure_channel(
                self._place, grpc.ssl_channel_credentials(self._authorities), _UNLIMITED
            )
        else:
            self._channel = grpc.aio.insecure_channel(self._place, _UNLIMITED)
        self._server = grpc.aio.server(options=_UNLIMITED)
        self._server.add_generic_rpc_handlers((self,))
        bound = int(self._server.add_insecure_port(f"{host}:{port}"))
        await self._server.start()
        return bound

    async def stop(self) -> None:
        """End all calls."""
        await self._server.stop(None)
        await self._channel.close()

    def service(self, details: Any) -> Any:
        """Take any method: one request and one answer are a stream of one each."""
        method = details.method

        async def handle(requests: AsyncIterator[bytes], context: Any) -> None:
            await self._pass(method, requests, context)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _pass(self, method: str, requests: AsyncIterator[bytes], context: Any) -> None:
        began = time.perf_counter()
        kept = _Kept(self._most_bytes if method in _INFERENCES else 0)
        metadata = [(key, value) for key, value in context.invocation_metadata() if not key.startswith(_OWN)]
        call = self._channel.stream_stream(method)(
            kept.read_along(requests), metadata=metadata, timeout=context.time_remaining()
        )
        try:
            await context.send_initial_metadata(await call.initial_metadata())
            async for response in call:
                kept.answer(response)
                await context.write(response)
            code, details = await call.code(), await call.details()
            context.set_trailing_metadata(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details()
            context.set_trailing_metadata(error.trailing_metadata())
        except asyncio.CancelledError:
            call.cancel()
            raise
        if method in _INFERENCES:
            self._keep(kept.recorded(method, code, time.perf_counter() - began))
        if code is not grpc.StatusCode.OK:
            await context.abort(code, details or "", tuple(context.trailing_metadata() or ()))


class _Kept:
    """The messages of one call as far as they fit."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._requests: list[bytes] = []
        self._answers: list[bytes] = []
        self._cut = ""

    async def read_along(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Hand requests on and keep them."""
        async for request in requests:
            if len(request) <= self._left:
                self._left -= len(request)
                self._requests.append(request)
            else:
                self._cut = "its messages were larger than --most-body"
            yield request

    def answer(self, response: bytes) -> None:
        """Keep an answer."""
        if len(response) <= self._left:
            self._left -= len(response)
            self._answers.append(response)

    def recorded(self, method: str, code: grpc.StatusCode, took_s: float) -> Recorded:
        """Return the call as it is written down."""
        refused, model = self._cut, ""
        for raw in self._requests:
            request = service_pb2.ModelInferRequest.FromString(raw)
            model = model or request.model_name
            if any("shared_memory_region" in tensor.parameters for tensor in request.inputs):
                refused = "its tensors lay in shared memory"
        status = "ok" if code is grpc.StatusCode.OK else code.name
        call = Captured("grpc", model, method, method, messages=tuple(self._requests), refused=refused)
        return Recorded(call, tuple(self._answers), status, took_s)
