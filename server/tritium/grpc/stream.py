"""ModelStreamInfer: requests and responses on one stream, for decoupled models and others.

    message -> accept() -> Turn (a Reply) -> responses of a decoupled model: written as they come
                                         `-> the response of another model: written in the order of the requests

Errors are items of the stream. A client that sends `triton_grpc_error: true` gets the first one as the stream's
status instead.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from tritium.compat.v2 import grpc_response, version
from tritium.compat.v2.call import InferCall
from tritium.compat.v2.refusal import Refusal
from tritium.core.bytes_walk import is_long, walk_ahead
from tritium.core.errors import InferenceError, Overloaded, Unavailable
from tritium.core.model import Model
from tritium.core.replies import Patience
from tritium.core.request import InferRequest, InferResponse
from tritium.core.serving import error_of, request_of
from tritium.core.tensor import Tensor
from tritium.grpc.failure import grpc_error
from tritium.grpc.front import Front
from tritium.grpc.infer import decode, encode, span_of
from tritium.grpc.message import parse_infer
from tritium.wire.grpc import Call, GrpcError


async def model_stream_infer(messages: AsyncIterator[bytes | memoryview], call: Call, front: Front) -> None:
    """Answer the requests of a stream until the client has sent its last and all are answered."""
    stream = InferStream(call, front)
    call.on_cancel(stream.cancel)
    answering = asyncio.ensure_future(_answer(messages, stream, call))
    fault: BaseException | None = None
    try:
        await asyncio.wait((answering, stream.failed), return_when=asyncio.FIRST_COMPLETED)
        if not stream.failed.done():
            await answering
    except BaseException as error:  # noqa: BLE001  # raised again below
        fault = error  # nothing is awaited in here: docs/decisions/005
    if fault is None and stream.failed.done():
        fault = stream.failed.result()
    answering.cancel()
    stream.cancel()
    await asyncio.gather(answering, return_exceptions=True)
    if fault is not None:
        try:
            raise fault
        finally:
            fault = None  # its traceback holds this frame


async def _answer(messages: AsyncIterator[bytes | memoryview], stream: "InferStream", call: Call) -> None:
    async for message in messages:
        await stream.accept(message)
        await call.drain()
    await stream.idle()


class InferStream:
    """The requests of one stream that are not answered yet."""

    def __init__(self, call: Call, front: Front) -> None:
        self.call = call
        self.front = front
        self.failed: asyncio.Future[GrpcError] = asyncio.get_running_loop().create_future()
        """Done once an error is to end the stream."""
        self._errors_end_it = any(name == b"triton_grpc_error" and value == b"true" for name, value in call.metadata)
        self._open: set[Turn] = set()
        self._ordered: deque[Turn] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._patience = Patience()

    async def accept(self, message: bytes | memoryview) -> None:
        """Begin to answer a request.

        Raises:
            GrpcError: the message is no request.
        """
        request, raws = parse_infer(message)
        turn = Turn(self, request.model_name, request.id)
        self._open.add(turn)
        self._ordered.append(turn)
        self._idle.clear()
        try:
            if self.call.server_leaves:
                raise Unavailable("GRPC server is shutting down and has stopped accepting new requests.")
            model = self.front.server.catalog.model(request.model_name, version.check(request.model_version))
            if model.decoupled:
                turn.ordered = False
                self._ordered.pop()
            decoded = decode(request, raws, self.call, self.front)
            if is_long(decoded.inputs):
                await walk_ahead(decoded.inputs)
            turn.run(model, decoded)
        except (Refusal, InferenceError) as problem:
            turn.refuse(problem)

    def write(self, item: bytes) -> None:
        """Send one item, unless the stream has failed."""
        if self.failed.done():
            return
        self.call.write(item)
        try:
            self._patience.check(self.call.unsent_bytes)
        except Overloaded as error:
            self.failed.set_result(grpc_error(error))

    def flush(self) -> None:
        """Send the responses whose turn it is."""
        while self._ordered and self._ordered[0].answered:
            if item := self._ordered.popleft().item:
                self.write(item)

    def fail(self, error: InferenceError) -> bool:
        """End the stream with an error where the client wants that; tell whether it does."""
        if self._errors_end_it and not self.failed.done():
            self.failed.set_result(grpc_error(error))
        return self._errors_end_it

    def close(self, turn: "Turn") -> None:
        """Forget a request that is answered."""
        self._open.discard(turn)
        if not self._open:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until every request is answered."""
        await self._idle.wait()

    def cancel(self) -> None:
        """Cancel every request that is not answered."""
        for turn in list(self._open):
            turn.cancel()


class Turn:
    """One request of a stream, and the Reply it is answered through."""

    def __init__(self, stream: InferStream, model_name: str, request_id: str) -> None:
        self.ordered = True
        """Whether it waits for the requests before it; not so once its model is known to be decoupled."""
        self.answered = False
        self.item = b""
        """What waits."""
        self._stream = stream
        self._model_name = model_name
        self._id = request_id
        self._model: Model | None = None
        self._call: InferCall[Tensor] = InferCall()
        self._inference: InferRequest | None = None
        self._accepted = False

    def run(self, model: Model, call: InferCall[Tensor]) -> None:
        """Submit the request to its model."""
        self._model, self._call = model, call
        self._inference = request_of(call, model)
        front = self._stream.front
        span = span_of(self._stream.call, front, model) if front.server.trace_settings.on else None
        model.submit(self._inference, self if span is None else span.watch(self._inference, self))
        self._accepted = True

    def cancel(self) -> None:
        """Take the request back."""
        if self._inference is not None:
            self._inference.cancel()

    def refuse(self, problem: Refusal | InferenceError) -> None:
        """Answer a request that cannot be submitted."""
        self.send(error_of(problem) if isinstance(problem, Refusal) else problem, final=True)

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Write one response, or keep it until the earlier requests are answered.

        Of a model that is not decoupled the first response is the only one, as in Triton.
        """
        item = b"" if self.ordered and self.item else self._item(response, final=final)
        if self.ordered:
            self.item = item or self.item
        elif item:
            self._stream.write(item)
        if final:
            self.answered = True
            self._stream.flush()
            self._stream.close(self)

    def _item(self, response: InferResponse | InferenceError | None, *, final: bool) -> bytes:
        if isinstance(response, InferResponse):
            assert self._model is not None
            try:
                message = encode(self._stream.front, self._model, self._call, response, final=final)
                return grpc_response.stream_item(message)
            except Refusal as refusal:
                response = error_of(refusal)
        if isinstance(response, InferenceError):
            if self._stream.fail(response):
                return b""
            # An error of the request names only the request; one of the model names the model as well.
            about = (self._model_name, final) if self._accepted else ("", None)
            message = grpc_response.encode(about[0], "", self._id, {}, (), final=about[1])
            return grpc_response.stream_item(message, response.message)
        if self._call.empty_final_response:
            return grpc_response.stream_item(grpc_response.encode(self._model_name, "", self._id, {}, (), final=True))
        return b""
