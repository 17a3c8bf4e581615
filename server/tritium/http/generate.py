"""The generate extension: one JSON object in; one out, or a stream of server-sent events."""

from tritium.compat.v2 import generate
from tritium.compat.v2.refusal import Refusal
from tritium.core.errors import InferenceError, Unsupported
from tritium.core.model import Model
from tritium.core.replies import StreamReply
from tritium.core.request import InferRequest, InferResponse
from tritium.core.serving import ServerState, error_of, full_shape, request_of
from tritium.core.tensor import Tensor
from tritium.http import answer
from tritium.http.target import Target
from tritium.wire.http import Request, Response

_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_NOT_ONE = (
    b'{"error":"generate expects model to produce exactly 1 response, '
    b'use generate stream for model that generates various number of responses"}'
)


async def generate_once(request: Request, server: ServerState, target: Target) -> Response:
    """POST /v2/models/{name}[/versions/{version}]/generate."""
    inference, reply = _submit(request, server, target)
    items = []
    async for item in reply:
        items.append(item)
        if len(items) > 1:
            inference.cancel()
            break
    if len(items) != 1:
        return Response(200, (answer.JSON,), (_NOT_ONE,))  # Triton's status for it
    status, body = _encode(items[0], inference)
    return Response(status, (answer.JSON,), (body,))


async def generate_stream(request: Request, server: ServerState, target: Target) -> Response | None:
    """POST /v2/models/{name}[/versions/{version}]/generate_stream.

    An error that is the only answer is answered with its status, as JSON. Others are events among events.
    """
    inference, reply = _submit(request, server, target)
    stream = None
    async for item in reply:
        if stream is None and isinstance(item, InferenceError) and reply.exhausted:
            raise item
        status, body = _encode(item, inference)
        if stream is None:
            stream = request.stream(status, (_EVENTS,))
        stream.write(b"data: %s\n\n" % body)
        await stream.drain()
        if stream.closed:
            inference.cancel()
            return None
    (stream or request.stream(200, (_EVENTS,))).end()
    return None


def _submit(request: Request, server: ServerState, target: Target) -> tuple[InferRequest, StreamReply]:
    model = server.catalog.model(target.name, target.version)
    if request.header(b"content-encoding", b"identity").lower() != b"identity":
        raise Unsupported("Unsupported compression type", hint="generate takes plain JSON")
    call = generate.decode(request.body, _schema(model), Tensor)
    inference = request_of(call, model)
    request.on_disconnect(inference.cancel)
    reply = StreamReply(inference.cancel)
    model.submit(inference, reply)
    return inference, reply


def _schema(model: Model) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {spec.name: (spec.datatype, full_shape(model, spec)) for spec in model.config.inputs.values()}


def _encode(item: InferResponse | InferenceError, inference: InferRequest) -> tuple[int, bytes]:
    """Return status and body of one item of the reply."""
    if isinstance(item, InferResponse):
        try:
            return 200, generate.encode(
                item.model_name, item.model_version, item.id or inference.id, item.parameters, item.outputs
            )
        except Refusal as refusal:
            item = error_of(refusal)
    return item.http_status, answer.error_body(item)
