"""Every method of inference.GRPCInferenceService, and grpc.health.v1.Health/Check, by full path."""

from collections.abc import AsyncIterator, Awaitable, Callable

from tritium.compat.restrictions import Api, Restriction
from tritium.compat.v2.refusal import Refusal
from tritium.core.errors import InferenceError
from tritium.core.serving import error_of
from tritium.grpc import health, infer, memory, metadata, repository, settings, stream
from tritium.grpc.failure import grpc_error
from tritium.grpc.front import Front
from tritium.wire.grpc import Bidi, Call, GrpcError, Methods, Reply, Unary
from tritium.wire.status import Status

_Action = Callable[[bytes | memoryview, Call, Front], Awaitable[Reply]]

_SERVICE = "/inference.GRPCInferenceService/"
RESTRICTION_PREFIX = "triton-grpc-protocol-"
"""Comes before the header of a restriction in the metadata of a call."""
_HEALTH_CHECK = "/grpc.health.v1.Health/Check"
_MODEL_INFER = _SERVICE + "ModelInfer"
_MODEL_STREAM_INFER = _SERVICE + "ModelStreamInfer"

_UNARY: dict[Api, dict[str, _Action]] = {
    Api.HEALTH: {
        "ServerLive": health.server_live,
        "ServerReady": health.server_ready,
        "ModelReady": health.model_ready,
    },
    Api.METADATA: {"ServerMetadata": metadata.server_metadata, "ModelMetadata": metadata.model_metadata},
    Api.MODEL_CONFIG: {"ModelConfig": metadata.model_config},
    Api.STATISTICS: {"ModelStatistics": metadata.model_statistics},
    Api.INFERENCE: {"ModelInfer": infer.model_infer},
    Api.MODEL_REPOSITORY: {
        "RepositoryIndex": repository.index,
        "RepositoryModelLoad": repository.load,
        "RepositoryModelUnload": repository.unload,
    },
    Api.LOGGING: {"LogSettings": settings.logging},
    Api.TRACE: {"TraceSetting": settings.tracing},
    Api.SHARED_MEMORY: {
        "SystemSharedMemoryStatus": memory.system_status,
        "SystemSharedMemoryRegister": memory.register_system,
        "SystemSharedMemoryUnregister": memory.unregister_system,
        "CudaSharedMemoryStatus": memory.cuda_status,
        "CudaSharedMemoryRegister": memory.register_cuda,
        "CudaSharedMemoryUnregister": memory.unregister_cuda,
    },
}
"""The unary methods, by what they can be restricted with."""


def methods(front: Front) -> Methods:
    """Make the table of methods of a gRPC port."""
    restricted = front.restricted
    unary = {_HEALTH_CHECK: _bound(health.check, front, restricted.get(Api.HEALTH))}
    for api, actions in _UNARY.items():
        unary.update({_SERVICE + name: _bound(action, front, restricted.get(api)) for name, action in actions.items()})
    return Methods(
        unary,
        {_MODEL_STREAM_INFER: _stream(front, restricted.get(Api.INFERENCE))},
        prompt=frozenset((_MODEL_INFER,)),
        compressed=frozenset((_MODEL_INFER, _MODEL_STREAM_INFER)),
        effort=front.effort,
    )


def _bound(action: _Action, front: Front, restriction: Restriction | None) -> Unary:
    """Give an action its front, and its errors their status."""

    async def answer(message: bytes | memoryview, call: Call) -> Reply:
        try:
            return await action(message, call, front)
        except Refusal as refusal:
            raise grpc_error(error_of(refusal)) from None
        except InferenceError as error:
            raise grpc_error(error) from None

    if restriction is None:
        return answer

    async def guarded(message: bytes | memoryview, call: Call) -> Reply:
        _admit(call, restriction)
        return await answer(message, call)

    return guarded


def _stream(front: Front, restriction: Restriction | None) -> Bidi:
    async def model_stream_infer(messages: AsyncIterator[bytes | memoryview], call: Call) -> None:
        if restriction is not None:
            _admit(call, restriction)
        await stream.model_stream_infer(messages, call, front)

    return model_stream_infer


def _admit(call: Call, restriction: Restriction) -> None:
    """Turn away who does not know the secret.

    Raises:
        GrpcError: the header is missing, or has another value.
    """
    header = RESTRICTION_PREFIX + restriction.header
    key = header.encode()
    given = next((value for name, value in call.metadata if name == key), b"")
    if not restriction.allows(given):
        raise GrpcError(Status.UNAVAILABLE, f"This protocol is restricted, expecting header '{header}'")
