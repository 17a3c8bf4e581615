"""The control tensors of sequence batching: what a model is told of where each request stands in its sequence.

Source: ModelSequenceBatching.Control in model_config.proto; sequence_batch_scheduler.cc.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.compat.config.model import ModelConfig
from tritium.compat.datatypes import BY_CONFIG_VALUE, BY_NAME
from tritium.core.errors import InvalidArgument
from tritium.core.implicit_state import zeros
from tritium.core.request import InferRequest, SequenceStep
from tritium.core.tensor import Tensor, join_bytes


class Controls:
    """The control tensors of one model."""

    def __init__(self, config: ModelConfig) -> None:
        self._model = config.name
        self._shape = (1, 1) if config.batches else (1,)
        self._names: set[str] = set()
        self._correlation: tuple[str, str] | None = None
        self._flags: list[tuple[Callable[[SequenceStep], bool], Tensor, Tensor]] = []
        for control_input in config.proto.sequence_batching.control_input:
            for control in control_input.control:
                self._read(control_input.name, control)

    @property
    def names(self) -> frozenset[str]:
        """Return the names of the control tensors."""
        return frozenset(self._names)

    def tensors(self, step: SequenceStep) -> list[Tensor]:
        """Return the control tensors of a request.

        Raises:
            InvalidArgument: the correlation id is of a kind that the model does not take.
        """
        tensors = [yes if holds(step) else no for holds, no, yes in self._flags]
        if self._correlation is not None:
            tensors.append(self._correlation_tensor(*self._correlation, step.correlation_id))
        return tensors

    def null(self, pattern: InferRequest) -> InferRequest:
        """Return a request that only keeps a place in a batch: not ready, zeros in the shapes of the pattern."""
        absent = {no.name: no for _, no, _ in self._flags}
        inputs = [absent.get(tensor.name) or zeros(tensor) for tensor in pattern.inputs]
        return InferRequest(pattern.model_name, pattern.model_version, inputs=inputs)

    def _read(self, name: str, control: Any) -> None:
        self._names.add(name)
        kind = control.Kind.Name(control.kind).removeprefix("CONTROL_SEQUENCE_")
        if kind == "CORRID":
            self._correlation = (name, BY_CONFIG_VALUE[control.data_type].name)
            return
        holds = {"START": _starts, "END": _ends, "READY": _always}[kind]
        datatype, values = next(
            (datatype, values)
            for datatype, values in (
                ("INT32", control.int32_false_true),
                ("FP32", control.fp32_false_true),
                ("BOOL", control.bool_false_true),
            )
            if values
        )
        no, yes = (
            Tensor(name, datatype, self._shape, np.array([value], BY_NAME[datatype].numpy).tobytes())
            for value in values
        )
        self._flags.append((holds, no, yes))

    def _correlation_tensor(self, name: str, datatype: str, correlation_id: int | str) -> Tensor:
        given = "BYTES" if isinstance(correlation_id, str) else "UINT64"
        if (datatype == "BYTES") != (given == "BYTES"):
            raise InvalidArgument(
                f"sequence batching control '{name}' data-type is '{given}', "
                f"but model '{self._model}' expects '{datatype}'"
            )
        if isinstance(correlation_id, str):
            return Tensor(name, datatype, self._shape, join_bytes([correlation_id]))
        # As Triton does, an id too large for a narrower datatype loses its upper bits.
        size = BY_NAME[datatype].size_bytes
        data = (correlation_id & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        return Tensor(name, datatype, self._shape, data)


def _starts(step: SequenceStep) -> bool:
    return step.start


def _ends(step: SequenceStep) -> bool:
    return step.end


def _always(step: SequenceStep) -> bool:  # noqa: ARG001 - a request that is there is ready
    return True
