"""Bytes to protobuf messages."""

from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf's stubs are not required

from tritium.wire.grpc import GrpcError
from tritium.wire.status import Status


def parse(kind: Any, message: bytes | memoryview) -> Any:
    """Read a message.

    Raises:
        GrpcError: the bytes are no such message.
    """
    try:
        return kind.FromString(message)
    except DecodeError:
        raise GrpcError(Status.INTERNAL, "Unable to parse request") from None
