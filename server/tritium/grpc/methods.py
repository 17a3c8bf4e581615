"""Every method of inference.GRPCInferenceService, and grpc.health.v1.Health/Check, by full path."""

from collections.abc import AsyncIterator, Awaitable, Callable

from tritium.compat.v2.refusal import Refusal
from tritium.core.errors import InferenceError
from tritium.core.serving import ServerState, error_of
from tritium.grpc import health, infer, metadata, repository, settings, stream
from tritium.grpc.failure import grpc_error
from tritium.wire.grpc import Call, Methods, Reply, Unary

_Action = Callable[[bytes | memoryview, Call, ServerState], Awaitable[Reply]]

_SERVICE = "/inference.GRPCInferenceService/"
_UNARY: dict[str, _Action] = {
    "ServerLive": health.server_live,
    "ServerReady": health.server_ready,
    "ModelReady": health.model_ready,
    "ServerMetadata": metadata.server_metadata,
    "ModelMetadata": metadata.model_metadata,
    "ModelConfig": metadata.model_config,
    "ModelStatistics": metadata.model_statistics,
    "ModelInfer": infer.model_infer,
    "RepositoryIndex": repository.index,
    "RepositoryModelLoad": repository.load,
    "RepositoryModelUnload": repository.unload,
    "LogSettings": settings.logging,
    "TraceSetting": settings.tracing,
    "SystemSharedMemoryStatus": settings.system_regions,
    "SystemSharedMemoryRegister": settings.register,
    "SystemSharedMemoryUnregister": settings.unregister,
    "CudaSharedMemoryStatus": settings.cuda_regions,
    "CudaSharedMemoryRegister": settings.register,
    "CudaSharedMemoryUnregister": settings.unregister,
}


def methods(server: ServerState) -> Methods:
    """Make the table of methods of a server's gRPC port."""

    async def model_stream_infer(messages: AsyncIterator[bytes | memoryview], call: Call) -> None:
        await stream.model_stream_infer(messages, call, server)

    return Methods(
        unary={
            "/grpc.health.v1.Health/Check": _bound(health.check, server),
            **{_SERVICE + name: _bound(action, server) for name, action in _UNARY.items()},
        },
        bidi={_SERVICE + "ModelStreamInfer": model_stream_infer},
        prompt=frozenset((_SERVICE + "ModelInfer",)),
    )


def _bound(action: _Action, server: ServerState) -> Unary:
    """Give an action its server, and its errors their status."""

    async def answer(message: bytes | memoryview, call: Call) -> Reply:
        try:
            return await action(message, call, server)
        except Refusal as refusal:
            raise grpc_error(error_of(refusal)) from None
        except InferenceError as error:
            raise grpc_error(error) from None

    return answer
