"""Inference: POST /v2/models/{name}[/versions/{version}]/infer."""

import asyncio

from tritium.compat.v2 import infer_request, infer_response
from tritium.compat.v2.call import InferCall
from tritium.core.errors import Unsupported
from tritium.core.model import Model
from tritium.core.replies import SingleReply
from tritium.core.request import InferResponse
from tritium.core.serving import ServerState, chosen_outputs, full_shape, request_of
from tritium.core.tensor import Tensor
from tritium.http import answer, compression
from tritium.http.target import Target
from tritium.wire.http import Buffer, Request, Response

_BINARY = (b"content-type", b"application/octet-stream")


async def infer(request: Request, server: ServerState, target: Target) -> Response:
    """Answer one inference with one response."""
    model = server.catalog.model(target.name, target.version)
    if model.decoupled:
        raise Unsupported(
            "HTTP end point doesn't support models with decoupled transaction policy",
            hint=f"POST /v2/models/{model.name}/generate_stream, or use gRPC's ModelStreamInfer",
        )
    call = await decode(request, server, model)
    response = await run(request, model, call)
    return await encode(request, server, model, call, response)


async def decode(request: Request, server: ServerState, model: Model) -> InferCall[Tensor]:
    """Read the body: JSON, JSON and tensors, or one raw tensor."""
    body = request.body
    if encoding := request.header(b"content-encoding"):
        body = await compression.unpack(body, encoding, server.max_input_bytes)
    json_size = infer_request.header_size(request.header(b"inference-header-content-length"), len(body))
    if json_size:
        return infer_request.decode(body, json_size, model.name, Tensor, server.regions.view)
    inputs = [(spec.name, spec.datatype, full_shape(model, spec, batch=1)) for spec in model.config.inputs.values()]
    return infer_request.decode_raw(body, model.name, inputs, Tensor)


async def run(request: Request, model: Model, call: InferCall[Tensor]) -> InferResponse:
    """Submit the call and wait for its one response; a client that leaves cancels it."""
    inference = request_of(call, model)
    reply = SingleReply(asyncio.get_running_loop())
    request.on_disconnect(inference.cancel)
    model.submit(inference, reply)
    return await reply


async def encode(
    request: Request, server: ServerState, model: Model, call: InferCall[Tensor], response: InferResponse
) -> Response:
    """Write the response in the form the client asked for."""
    header, blobs = infer_response.encode(
        response.model_name,
        response.model_version,
        response.id or call.id,
        response.parameters,
        chosen_outputs(server, model, call, response),
    )
    body: list[Buffer] = [header, *blobs]
    headers = [answer.JSON]
    if blobs:
        headers = [_BINARY, (b"inference-header-content-length", b"%d" % len(header))]
    if encoding := compression.accepted(request.header(b"accept-encoding")):
        headers.append((b"content-encoding", encoding))
        body = [await compression.pack(body, encoding)]
    return Response(200, headers, body)
