"""Bytes to protobuf messages."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf's stubs are not required

from tritium.compat.protobufs import service_pb2
from tritium.compat.v2 import grpc_large
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


def parse_infer(message: bytes | memoryview) -> tuple[Any, Sequence[memoryview]]:
    """Read a ModelInferRequest; the raw tensors of a large one are given apart from it, and not copied.

    Raises:
        GrpcError: the bytes are no such message.
    """
    if isinstance(message, memoryview):  # the wire hands over as bytes what is small
        try:
            head, raws = grpc_large.cut(message)
        except ValueError:
            pass  # protobuf says what is wrong with it
        else:
            return parse(service_pb2.ModelInferRequest, head), raws
    return parse(service_pb2.ModelInferRequest, message), ()
