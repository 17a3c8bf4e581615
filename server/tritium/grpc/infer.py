"""ModelInfer: one request, one response."""

import asyncio

from tritium.compat.v2 import grpc_request, grpc_response, version
from tritium.compat.v2.call import InferCall
from tritium.core.errors import Unsupported
from tritium.core.model import Model
from tritium.core.replies import SingleReply
from tritium.core.request import InferResponse
from tritium.core.serving import ServerState, chosen_outputs, request_of
from tritium.core.tensor import Buffer, Tensor
from tritium.grpc.message import parse_infer
from tritium.wire.grpc import Call, Reply


async def model_infer(message: bytes | memoryview, call: Call, server: ServerState) -> Reply:
    """Answer one inference with one response."""
    request, raws = parse_infer(message)
    model = server.catalog.model(request.model_name, version.check(request.model_version))
    if model.decoupled:
        raise Unsupported("ModelInfer RPC doesn't support models with decoupled transaction policy")
    decoded = grpc_request.decode(request, Tensor, raws)
    response = await _run(call, model, decoded)
    return encode(server, model, decoded, response)


async def _run(call: Call, model: Model, decoded: InferCall[Tensor]) -> InferResponse:
    """Submit the call and wait for its one response; a client that cancels, or runs out of time, cancels it."""
    inference = request_of(decoded, model)
    reply = SingleReply(asyncio.get_running_loop())
    call.on_cancel(inference.cancel)
    model.submit(inference, reply)
    return await reply


def encode(
    server: ServerState,
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
        (tensor for tensor, _ in chosen_outputs(server, model, decoded, response)),
        final=final,
    )
