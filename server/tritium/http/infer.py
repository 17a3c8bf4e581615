"""Inference: POST /v2/models/{name}[/versions/{version}]/infer."""

import asyncio

from tritium.compat.v2 import infer_request, infer_response
from tritium.compat.v2.call import Form, InferCall
from tritium.compat.v2.elements import to_json_slices
from tritium.compat.v2.forwarding import forward
from tritium.core.bytes_walk import is_long, walk_ahead
from tritium.core.errors import Unsupported
from tritium.core.front_span import HTTP, FrontSpan, begin_front_span, leave
from tritium.core.model import Model
from tritium.core.replies import SingleReply
from tritium.core.request import InferResponse
from tritium.core.serving import chosen_outputs, full_shape, request_of
from tritium.core.tensor import Tensor
from tritium.http import answer, compression
from tritium.http.aside import LARGE_BYTES, NamesMemory
from tritium.http.front import Front
from tritium.http.target import Target
from tritium.wire.http import Buffer, Request, Response
from tritium.wire.prompt import in_task

LARGE_TENSOR_BYTES = 256 << 10
"""A tensor of more is written to JSON in slices: eight million elements take a second and a half."""
_JSON = Form.JSON  # bound once: an enum looks its members up by name
_ENCODINGS = (b"accept-encoding", b"gzip, deflate")


async def infer(request: Request, front: Front, target: Target) -> Response:
    """Answer one inference with one response."""
    model = front.server.catalog.model(target.name, target.version)
    if not model.answers_once:
        raise Unsupported(
            "HTTP end point doesn't support models with decoupled transaction policy",
            hint=f"POST /v2/models/{model.name}/generate_stream, or use gRPC's ModelStreamInfer",
        )
    span = span_of(request, front, model) if front.server.trace_settings.on else None
    try:
        encoding = request.header(b"content-encoding")
        body = await compression.unpack(request.body, encoding, front.input_bytes) if encoding else request.body
        json_size = front.marking.json_size(request, len(body))
        if not json_size:
            model = await model.awake()
        if json_size <= LARGE_BYTES:
            call = decode(front, model, body, json_size)
        else:
            call = await decode_large(front, model, body, json_size)
        if front.forwarded is not None:
            forward(front.forwarded, request.headers, call.parameters)
        response = await run(request, model, call, span)
    except compression.UnknownEncoding as problem:
        leave(span)
        return answer.error(problem, (_ENCODINGS,))
    except BaseException:
        leave(span)
        raise
    return await encode(request, front, model, call, response)


def decode(front: Front, model: Model, body: bytes | memoryview, json_size: int) -> InferCall[Tensor]:
    """Read the body: JSON, JSON and tensors, or one raw tensor."""
    if json_size:
        region = front.server.regions.view
        return infer_request.decode(body, json_size, model.name, Tensor, region, front.input_bytes)
    infer_request.check_raw_size(len(body), front.input_bytes)
    inputs = [(spec.name, spec.datatype, full_shape(model, spec, batch=1)) for spec in model.config.inputs.values()]
    return infer_request.decode_raw(body, model.name, inputs, Tensor)


async def decode_large(front: Front, model: Model, body: bytes | memoryview, json_size: int) -> InferCall[Tensor]:
    """Read a body whose JSON is long, and let others be served meanwhile."""
    await in_task()
    try:
        return await front.large.infer(body, json_size, model.name, front.input_bytes)
    except NamesMemory:
        return decode(front, model, body, json_size)


def span_of(request: Request, front: Front, model: Model) -> FrontSpan | None:
    """Return the request's part in a trace, if it is to be traced."""
    parent, state = request.header(b"traceparent"), request.header(b"tracestate")
    return begin_front_span(front.server.trace_settings, model.name, HTTP, parent, state)


async def run(request: Request, model: Model, call: InferCall[Tensor], span: FrontSpan | None = None) -> InferResponse:
    """Submit the call and wait for its one response; a client that leaves cancels it."""
    inference = request_of(call, model)
    reply = SingleReply(asyncio.get_running_loop())
    request.on_disconnect(inference.cancel)
    if is_long(inference.inputs):
        await walk_ahead(inference.inputs)
    model.submit(inference, reply if span is None else span.watch(inference, reply))
    return await reply


async def encode(
    request: Request, front: Front, model: Model, call: InferCall[Tensor], response: InferResponse
) -> Response:
    """Write the response in the form the client asked for."""
    outputs = list(chosen_outputs(front.server, model, call, response))
    head = (response.model_name, response.model_version, response.id or call.id, response.parameters)
    large = [tensor for tensor, form in outputs if form is _JSON and tensor.size_bytes > LARGE_TENSOR_BYTES]
    if large:
        await in_task()
        written = {tensor.name: await in_slices(tensor) for tensor in large}
        parts, blobs = infer_response.encode_parts(*head, outputs, written)
        json_size = sum(map(len, parts))
        body: list[Buffer] = [*parts, *blobs]
    else:
        text, blobs = infer_response.encode(*head, outputs)
        json_size = len(text)
        body = [text, *blobs]
    headers = list(front.marking.headers(json_size)) if blobs else [answer.JSON]
    wished = request.header(b"accept-encoding")
    if wished and (encoding := compression.accepted(wished)):
        headers.append((b"content-encoding", encoding))
        body = [await compression.pack(body, encoding)]
    return Response(200, headers, body)


async def in_slices(tensor: Tensor) -> list[bytes]:
    """Write a tensor's elements to JSON, and let others have a turn after each slice."""
    slices = []
    for piece in to_json_slices(tensor.datatype, tensor.data):
        slices.append(piece)
        await asyncio.sleep(0)
    return slices
