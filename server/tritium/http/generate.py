"""The generate extension: one JSON object in; one out, or a stream of server-sent events.

    refused before it is queued           -> its status, plain JSON
    answered                              -> chunked; the status is the first response's: 200, or 400 for an error
    any later error                       -> an event among events

That every error of a model is 400 here, whatever its code, is Triton's way.
"""

from tritium.compat.v2 import generate
from tritium.compat.v2.refusal import Refusal
from tritium.core.bytes_walk import is_long, walk_ahead
from tritium.core.errors import InferenceError, InvalidArgument
from tritium.core.model import Model
from tritium.core.replies import StreamReply
from tritium.core.request import InferRequest, InferResponse
from tritium.core.serving import error_of, full_shape, request_of
from tritium.core.tensor import Tensor
from tritium.http import answer, load_metrics
from tritium.http.aside import LARGE_BYTES
from tritium.http.front import Front
from tritium.http.infer import LARGE_TENSOR_BYTES, in_slices, span_of
from tritium.http.target import Target
from tritium.wire.http import Headers, Request

_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_NOT_ONE = (
    b'{"error":"generate expects model to produce exactly 1 response, '
    b'use generate stream for model that generates various number of responses"}'
)


async def generate_once(request: Request, front: Front, target: Target) -> None:
    """POST /v2/models/{name}[/versions/{version}]/generate."""
    inference, reply = await _submit(request, front, target)
    items = []
    async for item in reply:
        items.append(item)
        if len(items) > 1:
            inference.cancel()
            break
    status, body = await encode_item(items[0], inference) if items else (200, _NOT_ONE)
    stream = request.stream(status, _headers(request, front, answer.JSON))
    stream.end(body if len(items) == 1 else _NOT_ONE)


async def generate_stream(request: Request, front: Front, target: Target) -> None:
    """POST /v2/models/{name}[/versions/{version}]/generate_stream."""
    inference, reply = await _submit(request, front, target)
    stream = None
    async for item in reply:
        status, body = await encode_item(item, inference)
        if stream is None:
            stream = request.stream(status, _headers(request, front, _EVENTS))
        stream.write(b"data: %s\n\n" % body)
        await stream.drain()
        if stream.closed:
            inference.cancel()
            break
    (stream or request.stream(200, _headers(request, front, _EVENTS))).end()


async def _submit(request: Request, front: Front, target: Target) -> tuple[InferRequest, StreamReply]:
    """Queue the request.

    Raises:
        InferenceError, Refusal: it cannot be read, or the model does not take it.
    """
    # What is an input and what a parameter is told by the configuration, which only a loaded model has whole.
    model = await front.server.catalog.model(target.name, target.version).awake()
    if request.header(b"content-encoding") not in (b"", b"identity"):
        raise InvalidArgument("Unsupported content-encoding, only 'identity' is supported.")
    if len(request.body) > LARGE_BYTES:
        call = await front.large.generate(request.body, _schema(model), front.input_bytes)
    else:
        call = generate.decode(request.body, _schema(model), Tensor, front.input_bytes)
    inference = request_of(call, model)
    request.on_disconnect(inference.cancel)
    if is_long(inference.inputs):
        await walk_ahead(inference.inputs)
    reply = StreamReply(inference.cancel)
    span = span_of(request, front, model) if front.server.trace_settings.on else None
    model.submit(inference, reply if span is None else span.watch(inference, reply))
    if (refusal := reply.refusal) is not None:
        raise refusal
    return inference, reply


def _schema(model: Model) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {spec.name: (spec.datatype, full_shape(model, spec)) for spec in model.config.inputs.values()}


def _headers(request: Request, front: Front, content_type: tuple[bytes, bytes]) -> Headers:
    wanted = request.header(load_metrics.REQUEST_HEADER)
    if not wanted or front.load_report is None:
        return (content_type,)
    return (content_type, *load_metrics.headers(wanted, front.load_report))


async def encode_item(item: InferResponse | InferenceError, inference: InferRequest) -> tuple[int, bytes]:
    """Return status and body of one item of the reply."""
    if isinstance(item, InferResponse):
        head = (item.model_name, item.model_version, item.id or inference.id, item.parameters)
        try:
            large = [tensor for tensor in item.outputs if tensor.size_bytes > LARGE_TENSOR_BYTES]
            written = {tensor.name: b"".join(await in_slices(tensor)) for tensor in large} if large else None
            return 200, generate.encode(*head, item.outputs, written)
        except Refusal as refusal:
            item = error_of(refusal)
    return 400, answer.error_body(item)
