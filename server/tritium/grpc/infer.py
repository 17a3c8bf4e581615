"""ModelInfer: one request, one response."""

import asyncio
from collections.abc import Sequence
from typing import Any

from tritium.compat.v2 import grpc_request, grpc_response, version
from tritium.compat.v2.call import InferCall
from tritium.compat.v2.forwarding import forward
from tritium.core.bytes_walk import is_long, walk_ahead
from tritium.core.errors import Unsupported
from tritium.core.front_span import GRPC, FrontSpan, begin_front_span, leave
from tritium.core.model import Model
from tritium.core.replies import SingleReply
from tritium.core.request import InferResponse
from tritium.core.serving import chosen_outputs, request_of
from tritium.core.tensor import Buffer, Tensor
from tritium.grpc.front import Front
from tritium.grpc.message import parse_infer
from tritium.wire.grpc import Call, Reply


async def model_infer(message: bytes | memoryview, call: Call, front: Front) -> Reply:
    """Answer one inference with one response."""
    request, raws = parse_infer(message)
    model = front.server.catalog.model(request.model_name, version.check(request.model_version))
    if not model.answers_once:
        raise Unsupported("ModelInfer RPC doesn't support models with decoupled transaction policy")
    span = span_of(call, front, model) if front.server.trace_settings.on else None
    try:
        decoded = decode(request, raws, call, front)
        response = await _run(call, model, decoded, span)
    except BaseException:
        leave(span)
        raise
    return encode(front, model, decoded, response)


def span_of(call: Call, front: Front, model: Model) -> FrontSpan | None:
    """Return the request's part in a trace, if it is to be traced."""
    headers = {name: value for name, value in call.metadata if name in (b"traceparent", b"tracestate")}
    parent, state = headers.get(b"traceparent", b""), headers.get(b"tracestate", b"")
    return begin_front_span(front.server.trace_settings, model.name, GRPC, parent, state)


def decode(request: Any, raws: Sequence[memoryview], call: Call, front: Front) -> InferCall[Tensor]:
    """Read a request, with the headers of its call that the server forwards."""
    decoded = grpc_request.decode(request, Tensor, raws, front.server.regions.view)
    if front.forwarded is not None:
        forward(front.forwarded, call.metadata, decoded.parameters)
    return decoded


async def _run(call: Call, model: Model, decoded: InferCall[Tensor], span: FrontSpan | None) -> InferResponse:
    """Submit the call and wait for its one response; a client that cancels, or runs out of time, cancels it."""
    inference = request_of(decoded, model)
    reply = SingleReply(asyncio.get_running_loop())
    call.on_cancel(inference.cancel)
    if is_long(inference.inputs):
        await walk_ahead(inference.inputs)
    model.submit(inference, reply if span is None else span.watch(inference, reply))
    return await reply


def encode(
    front: Front,
    model: Model,
    decoded: InferCall[Tensor],
    response: InferResponse,
    *,
    final: bool | None = None,
) -> list[Buffer]:
    """Write a response with the outputs that the client asked for."""
    return grpc_response.encode(
        response.model_name,
        response.model_version,
        response.id or decoded.id,
        response.parameters,
        chosen_outputs(front.server, model, decoded, response),
        final=final,
    )
