"""Implicit state: tensors that the server keeps for a sequence between its requests, so that the model need not.

    request + state inputs -> model -> state outputs, kept for the next request; the rest goes to the client

A model's configuration names each state's input and output (`sequence_batching.state`). Source: Triton core,
sequence_state.cc.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tritium.compat.config.model import ModelConfig
from tritium.compat.datatypes import BY_CONFIG_VALUE, BY_NAME
from tritium.core.request import InferRequest, RequestedOutput
from tritium.core.tensor import Buffer, Tensor


class States:
    """The states of one model; `initial` has the bytes of those that start out from a file, by input name."""

    def __init__(self, config: ModelConfig, initial: Mapping[str, bytes]) -> None:
        states = config.proto.sequence_batching.state
        self.inputs = {state.output_name: state.input_name for state in states}
        """The input by which the model is given what it made of an output."""
        self._asked = {state.output_name: RequestedOutput(state.output_name) for state in states}
        self.returned = frozenset(config.outputs).intersection(self.inputs)
        """State outputs that clients may see too."""
        self.vary = any(dim < 0 for state in states for dim in state.dims)
        """Whether two sequences may have states of different shapes."""
        self._first = [_first(state, initial, batches=config.batches) for state in states]

    def begin(self) -> "SequenceState":
        """Return the state of a sequence that starts."""
        return SequenceState(self, {tensor.name: tensor for tensor in self._first})

    def ask(self, outputs: Sequence[RequestedOutput]) -> list[RequestedOutput]:
        """Return the outputs that a model must make for a client who wants these (none: all there are)."""
        wanted = [output for output in outputs if output.name not in self._asked or self.by_client(output)]
        return [*wanted, *self._asked.values()] if outputs else []

    def by_client(self, output: RequestedOutput) -> bool:
        """Tell whether a state is among the outputs because a client wants it, and not only for us."""
        return output is not self._asked[output.name]


class SequenceState:
    """The states of one sequence, as its next request will find them."""

    __slots__ = ("_states", "_tensors")

    def __init__(self, states: States, tensors: dict[str, Tensor]) -> None:
        self._states = states
        self._tensors = tensors

    @property
    def tensors(self) -> Sequence[Tensor]:
        """Return the state inputs."""
        return list(self._tensors.values())

    def keep(self, outputs: Sequence[Tensor], request: InferRequest) -> list[Tensor]:
        """Keep the states among a response's outputs, and return what of it the client is to see."""
        return [tensor for tensor in outputs if not self._kept(tensor) or self._wanted(tensor.name, request)]

    def _kept(self, tensor: Tensor) -> bool:
        name = self._states.inputs.get(tensor.name)
        if name is None:
            return False
        self._tensors[name] = Tensor(name, tensor.datatype, tensor.shape, tensor.data)
        return True

    def _wanted(self, name: str, request: InferRequest) -> bool:
        if name not in self._states.returned:
            return False
        if not request.outputs:
            return True
        return any(o.name == name and self._states.by_client(o) for o in request.outputs)


def outputs_made(config: ModelConfig) -> dict[str, str]:
    """Return the outputs that a model makes, for clients and for the server to keep, each with its datatype."""
    states = config.proto.sequence_batching.state
    made = {state.output_name: BY_CONFIG_VALUE[state.data_type].name for state in states}
    return {name: spec.datatype for name, spec in config.outputs.items()} | made


def zeros(tensor: Tensor) -> Tensor:
    """Return a tensor like this one without its content: numbers are 0, strings empty."""
    return Tensor(tensor.name, tensor.datatype, tensor.shape, _zeros(tensor.datatype, tensor.shape))


def initial_shape(state: Any, *, batches: bool) -> tuple[int, ...]:
    """Return the shape in which a state starts out; dimensions that vary are 1 unless `initial_state` says more."""
    dims = state.initial_state[0].dims if state.initial_state else state.dims
    return tuple(_shape(dims, batches=batches))


def _first(state: Any, initial: Mapping[str, bytes], *, batches: bool) -> Tensor:
    datatype = BY_CONFIG_VALUE[state.data_type].name
    shape = initial_shape(state, batches=batches)
    data: Buffer = initial.get(state.input_name) or _zeros(datatype, shape)
    return Tensor(state.input_name, datatype, shape, data)


def _shape(dims: Sequence[int], *, batches: bool) -> Iterator[int]:
    if batches:
        yield 1
    for dim in dims:
        yield 1 if dim < 0 else dim


def _zeros(datatype: str, shape: Sequence[int]) -> bytes:
    # A string of no length is its length alone, which has four bytes.
    return bytes(math.prod(shape) * (BY_NAME[datatype].size_bytes or 4))
