"""Errors as gRPC statuses."""

from tritium.core.errors import InferenceError
from tritium.wire.grpc import GrpcError
from tritium.wire.status import Status


def grpc_error(error: InferenceError) -> GrpcError:
    """Give an error its status. Its hint stays behind: clients compare this text with Triton's."""
    return GrpcError(Status(error.grpc_code), error.message)
