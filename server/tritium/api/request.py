"""A request of the Python API, and what it is for the server."""

import asyncio
import queue
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tritium.api.errors import InvalidArgumentError
from tritium.api.memory_buffer import MemoryType
from tritium.api.tensor import Tensor, tensor_of
from tritium.core.request import NO_SEQUENCE, InferRequest, Parameter, SequenceStep

if TYPE_CHECKING:
    from tritium.api.model import Model

SEQUENCE_START = 1
SEQUENCE_END = 2


@dataclass
class InferenceRequest:
    """Inputs and what goes with them. `timeout` is in microseconds; `flags` are those of sequences.

    Inputs are Tensors, or whatever one can be made of: arrays, objects with DLPack, nested lists. Responses are put
    into `response_queue` as well, where one is given: a SimpleQueue for `infer`, an asyncio.Queue for `async_infer`.
    """

    model: "Model"
    request_id: str | None = None
    flags: int = 0
    correlation_id: int | str | None = None
    priority: int = 0
    timeout: int = 0
    inputs: dict[str, Tensor | Any] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    output_memory_type: Any = None
    response_queue: "queue.SimpleQueue[Any] | asyncio.Queue[Any] | None" = None

    def decoded(self) -> InferRequest:
        """Return the request as the server's models see it.

        Raises:
            InvalidArgumentError: an input or a parameter cannot be sent, or outputs are wanted where none can be.
        """
        _check_memory(self.output_memory_type)
        for name, value in self.parameters.items():
            if not isinstance(value, str | int | float | bool):
                raise InvalidArgumentError(
                    f"parameter '{name}' is a {type(value).__name__}: parameters are str, int, float or bool"
                )
        sequence = NO_SEQUENCE
        if self.correlation_id or self.flags:
            start, end = bool(self.flags & SEQUENCE_START), bool(self.flags & SEQUENCE_END)
            sequence = SequenceStep(self.correlation_id or 0, start, end)
        return InferRequest(
            self.model.name,
            self.model.wanted_version,
            self.request_id or "",
            [tensor_of(name, value) for name, value in self.inputs.items()],
            [],
            dict(self.parameters),
            sequence,
            self.priority,
            self.timeout,
            time.monotonic_ns(),
        )


def _check_memory(wanted: Any) -> None:
    """Refuse outputs in memory that a machine without a GPU does not have."""
    if wanted is None or wanted is MemoryType.CPU:
        return
    kind = wanted[0] if isinstance(wanted, tuple) else str(wanted).partition(":")[0]
    if kind not in ("cpu", MemoryType.CPU):
        raise InvalidArgumentError(f"output_memory_type {wanted!r} cannot be had: outputs are in the host's memory")
