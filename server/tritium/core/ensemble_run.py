"""One request on its way through an ensemble.

    inputs -> every step whose inputs are there -> member.submit -> its outputs -> further steps -> response

Tensors that a decoupled member makes come in iterations; a step runs once an iteration, and tensors that come
only once are there for every iteration. The first error ends the run and cancels what is still under way.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from tritium.compat.config.model import ModelConfig
from tritium.core.dataflow import Dataflow, Step
from tritium.core.errors import Cancelled, InferenceError, InvalidArgument
from tritium.core.model import Model
from tritium.core.request import InferRequest, InferResponse, Parameter, Reply, RequestedOutput, SequenceStep, Spans
from tritium.core.tensor import Tensor

_ONCE: Final = -1
"""The iteration of a tensor that comes only once."""


class _Value:
    """A tensor between steps; `tensor` is None for an optional one that was not given or not made."""

    __slots__ = ("batch_size", "sequence", "takers", "tensor")

    def __init__(self, tensor: Tensor | None, batch_size: int, sequence: SequenceStep, takers: int) -> None:
        self.tensor = tensor
        self.batch_size = batch_size
        self.sequence = sequence
        self.takers = takers


class EnsembleRun:
    """The state of one request; `ended` is called once, after the last response."""

    def __init__(
        self,
        config: ModelConfig,
        version: str,
        flow: Dataflow,
        members: Mapping[int, Model],
        request: InferRequest,
        batch_size: int,
        reply: Reply,
        *,
        measured: Callable[[Spans], None],
        ended: Callable[[InferenceError | None], None],
    ) -> None:
        self._config = config
        self._version = version
        self._flow = flow
        self._members = members
        self._request = request
        self._batch_size = batch_size if config.batches else 0
        self._reply = reply
        self._measured = measured
        self._ended = ended
        self._outputs = {output.name for output in request.outputs} or set(config.outputs)
        self._needed = flow.needed(frozenset(self._outputs))
        self._streams = flow.streams(index for index, member in members.items() if member.decoupled)
        self._decoupled = bool(self._streams)
        self._values: dict[tuple[str, int], _Value] = {}
        self._iterations = [0] * len(flow.steps)
        self._held: dict[int, InferResponse] = {}
        self._next_iteration = 0
        self._under_way: dict[InferRequest, Step] = {}
        self._answered = False
        self._finished = False

    def start(self) -> None:
        """Give the request's inputs to the steps that take them."""
        given = {tensor.name: tensor for tensor in self._request.inputs}
        names = list(self._config.inputs)
        for name in names:
            self._keep(name, _ONCE, given.get(name), self._batch_size, self._request.sequence)
        self._request.on_cancel(self._cancel)
        self._advance(names, _ONCE)

    def deliver(self, call: "_Call", response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Take one response of a member."""
        if self._finished:
            return
        if final:
            del self._under_way[call.request]
        if isinstance(response, InferenceError):
            self._fail(response)
        elif response is None:
            self._advance((), _ONCE)
        else:
            step = call.step
            iteration = call.iteration
            if self._members[step.index].decoupled:
                iteration = self._iterations[step.index]
                self._iterations[step.index] += 1
            made = {tensor.name: tensor for tensor in response.outputs}
            try:
                sequence = _sequence(response.parameters, call.request.sequence)
            except InvalidArgument as error:
                self._fail(error)
                return
            for output, name in step.outputs.items():
                self._keep(name, iteration, made.get(output), call.batch_size, sequence)
            self._advance(step.outputs.values(), iteration)

    def _keep(self, name: str, iteration: int, tensor: Tensor | None, batch_size: int, sequence: SequenceStep) -> None:
        takers = sum(step.index in self._needed for step in self._flow.takers(name)) + (name in self._outputs)
        if takers:
            self._values[self._key(name, iteration)] = _Value(tensor, batch_size, sequence, takers)

    def _key(self, name: str, iteration: int) -> tuple[str, int]:
        return (name, iteration if name in self._streams else _ONCE)

    def _advance(self, arrived: Collection[str], iteration: int) -> None:
        """Start the steps, and send the responses, that lacked only what has just arrived."""
        calls: dict[tuple[int, int], _Call] = {}
        for name in arrived:
            for step in self._flow.takers(name):
                if step.index in self._needed:
                    for ready in self._ready(step.inputs.values(), name, iteration):
                        if (step.index, ready) not in calls:
                            calls[step.index, ready] = self._call(step, ready)
        for call in calls.values():
            self._under_way[call.request] = call.step
        outputs = {
            ready for name in arrived if name in self._outputs for ready in self._ready(self._outputs, name, iteration)
        }
        for ready in sorted(outputs):
            self._held[ready] = self._response(ready)
        for call in calls.values():
            if not self._finished:
                self._members[call.step.index].submit(call.request, call)
        self._flush()

    def _ready(self, names: Collection[str], arrived: str, iteration: int) -> Iterable[int]:
        """Return the iterations for which all these tensors are there, one of which has just arrived."""
        streams = [name for name in names if name in self._streams]
        if arrived in self._streams or not streams:
            candidates: Iterable[int] = (iteration if streams else _ONCE,)
        else:
            candidates = [at for name, at in self._values if name == streams[0]]
        return [at for at in candidates if all(self._key(name, at) in self._values for name in names)]

    def _take(self, name: str, iteration: int) -> _Value:
        """Return a tensor to one of its takers; the last one takes a stream's tensor away."""
        key = self._key(name, iteration)
        value = self._values[key]
        value.takers -= 1
        if not value.takers and name in self._streams:
            del self._values[key]
        return value

    def _call(self, step: Step, iteration: int) -> "_Call":
        request, member = self._request, self._members[step.index]
        config = member.config
        taken = {name: self._take(name, iteration) for name in set(step.inputs.values())}
        inputs: list[Tensor] = []
        for name, source in step.inputs.items():
            value = taken[source]
            if value.tensor is not None:
                dims = config.inputs[name].dims if name in config.inputs else ()
                shape = _convert(value.tensor.shape, dims, value.batch_size, batches=config.batches)
                inputs.append(Tensor(name, value.tensor.datatype, shape, value.tensor.data))
        sequences = [value.sequence for value in taken.values() if value.sequence != request.sequence]
        batch_size = inputs[0].shape[0] if config.batches and inputs and inputs[0].shape else 0
        return _Call(
            self,
            step,
            iteration,
            InferRequest(
                member.name,
                member.version,
                request.id,
                inputs,
                [RequestedOutput(name) for name in step.outputs],
                request.parameters,
                sequences[0] if sequences else request.sequence,
                request.priority,
                request.timeout_us,
                request.arrival_ns,
                measured=self._measured,
            ),
            batch_size,
        )

    def _response(self, iteration: int) -> InferResponse:
        response = InferResponse(self._config.name, self._version, self._request.id)
        # Triton lists an ensemble's outputs last one first.
        for name in reversed(list(self._config.outputs)):
            if name not in self._outputs:
                continue
            value = self._take(name, iteration)
            if value.tensor is None:
                continue
            spec, tensor = self._config.outputs[name], value.tensor
            shape = _convert(tensor.shape, spec.dims, value.batch_size, batches=self._config.batches)
            response.outputs.append(Tensor(name, tensor.datatype, shape, tensor.data))
            response.parameters["sequence_id"] = value.sequence.correlation_id
            response.parameters["sequence_start"] = value.sequence.start
            response.parameters["sequence_end"] = value.sequence.end
        return response

    def _flush(self) -> None:
        """Send the responses whose turn it is, and end the run when nothing is under way any more."""
        if self._finished:
            return
        while self._held:
            at = _ONCE if _ONCE in self._held else self._next_iteration
            response = self._held.pop(at, None)
            if response is None:
                break
            self._next_iteration = at + 1
            last = not self._under_way and not self._held
            self._answered = True
            self._finished = last
            self._reply.send(response, final=last)
        if self._under_way:
            return
        if self._finished:
            self._ended(None)
        elif self._answered or self._decoupled:
            self._finished = True
            self._reply.send(None, final=True)
            self._ended(None)
        else:
            about = f"[request id: {self._request.id or '<id_unknown>'}] "
            self._fail(
                InvalidArgument(
                    f"{about}unexpected deadlock, at least one output is not set while no more ensemble steps "
                    "can be made"
                )
            )

    def _fail(self, error: InferenceError) -> None:
        if self._finished:
            return
        self._finished = True
        told = type(error)(f"in ensemble '{self._config.name}', {error.message}", error.hint)
        self._reply.send(told, final=True)
        self._ended(told)
        for request in list(self._under_way):
            request.cancel()

    def _cancel(self) -> None:
        self._fail(Cancelled("the request was cancelled"))


class _Call:
    """One request to a member, and the reply it answers to."""

    __slots__ = ("batch_size", "iteration", "request", "run", "step")

    def __init__(self, run: EnsembleRun, step: Step, iteration: int, request: InferRequest, batch_size: int) -> None:
        self.run = run
        self.step = step
        self.iteration = iteration
        self.request = request
        self.batch_size = batch_size

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Pass a member's response to the run."""
        self.run.deliver(self, response, final=final)


def _convert(shape: tuple[int, ...], dims: Sequence[int], batch_size: int, *, batches: bool) -> tuple[int, ...]:
    """Add or take off a batch dimension of 1 between models of which only one batches."""
    if batches == bool(batch_size):
        return shape
    fits = len(shape) == len(dims) and all(want in (-1, got) for got, want in zip(shape, dims, strict=True))
    if batches:
        return (1, *shape) if fits else shape
    return shape[1:] if not fits and batch_size == 1 else shape


def _sequence(parameters: Mapping[str, Parameter], default: SequenceStep) -> SequenceStep:
    """Read the sequence that a member's response puts its tensors in, if it says so."""
    if not parameters.keys() & {"sequence_id", "sequence_start", "sequence_end"}:
        return default
    correlation_id = parameters.get("sequence_id", default.correlation_id)
    if not isinstance(correlation_id, int | str):
        raise InvalidArgument("expected parameter 'sequence_id' to be an integer or a string")
    return SequenceStep(
        correlation_id, parameters.get("sequence_start") is True, parameters.get("sequence_end") is True
    )
