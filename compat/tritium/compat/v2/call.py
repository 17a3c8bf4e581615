"""A v2 inference request as the client wrote it, by whichever protocol, before it meets a model."""

from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

import msgspec

from tritium.compat.v2.elements import Buffer

T = TypeVar("T")
Parameter = str | int | float | bool
MakeTensor = Callable[[str, str, tuple[int, ...], Buffer], T]
"""What the server makes of an input's name, datatype, shape and data."""


class Form(Enum):
    """How an output goes to the client: in the JSON, as bytes behind it, or through memory that the client shares."""

    JSON = "json"
    BYTES = "bytes"
    MEMORY = "memory"


class OutputRequest(msgspec.Struct):
    """An output the client names; `classification` 0 asks for the tensor itself.

    With `memory` its data is written there and nowhere else.
    """

    name: str
    binary: bool = False
    classification: int = 0
    memory: memoryview | None = None


class InferCall(msgspec.Struct, Generic[T]):
    """A request; `inputs` are what the caller's MakeTensor made of them."""

    id: str = ""
    inputs: list[T] = []
    outputs: list[OutputRequest] = []
    parameters: dict[str, Parameter] = {}
    sequence_id: int | str = 0
    sequence_start: bool = False
    sequence_end: bool = False
    priority: int = 0
    timeout_us: int = 0
    binary_output: bool = False
    """Whether an output the client does not name, or names without saying how, comes back as bytes."""
    empty_final_response: bool = False
    """Whether the end of a decoupled stream is told by a response of its own (gRPC only)."""
