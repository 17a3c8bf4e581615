"""Errors as gRPC statuses."""

from tritium.core.errors import InferenceError
from tritium.wire.grpc import GrpcError
from tritium.wire.status import Status


def grpc_error(error: InferenceError) -> GrpcError:
    """Give an error its status, and its hint where there is one."""
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return GrpcError(Status(error.grpc_code), message)
