"""One request on its way through an ensemble.

    inputs -> every step whose inputs are there -> member.submit -> its outputs -> further steps -> response

Tensors that a decoupled member makes come in iterations; a step runs once an iteration, and tensors that come
only once are there for every iteration. The first error ends the run and cancels what is still under way.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from tritium.compat.config.model import ModelConfig
from tritium.core.dataflow import CLIENT, Course, Step
from tritium.core.ensemble_gate import StepGate
from tritium.core.errors import Cancelled, InferenceError, InvalidArgument
from tritium.core.model import Model
from tritium.core.request import InferRequest, InferResponse, Parameter, Reply, SequenceStep, Spans
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
    """The state of one request; `ended` is called once, after the last response.

    `gates` stand before the steps, one each, where only so many requests of a step may be under way. A member that
    has been replaced since the request came is looked up anew by `resolve`. `note` is told of outputs nobody made.
    """

    def __init__(
        self,
        config: ModelConfig,
        version: str,
        steps: Sequence[Step],
        course: Course,
        members: list[Model],
        request: InferRequest,
        batch_size: int,
        reply: Reply,
        *,
        gates: Sequence[StepGate],
        resolve: Callable[[str, str], Model],
        note: Callable[[str], None],
        measured: Callable[[Spans], None],
        ended: Callable[[InferenceError | None], None],
    ) -> None:
        self._config = config
        self._version = version
        self._steps = steps
        self._course = course
        self._members = members
        self._request = request
        self._batch_size = batch_size if config.batches else 0
        self._reply = reply
        self._gates = gates
        self._resolve = resolve
        self._note = note
        self._measured = measured
        self._ended = ended
        self._values: dict[tuple[str, int], _Value] = {}
        self._single_missing = dict(course.single)
        self._many_missing: dict[tuple[int, int], int] = {}
        self._iterations = [0] * len(steps)
        self._held: dict[int, InferResponse] = {}
        self._next_iteration = 0
        self._under_way: set[InferRequest] = set()
        self._at_gates = 0
        """Requests of this run that wait at a gate."""
        self._holding: set[InferRequest] = set()
        """The members' requests that were told to wait for that."""
        self._answered = False
        self._finished = False

    @property
    def finished(self) -> bool:
        """Tell whether the last response is out."""
        return self._finished

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
            self._under_way.discard(call.request)
        if isinstance(response, InferenceError):
            self._fail(response, call.step)
        elif response is None:
            self._flush()
        else:
            self._take_response(call, response)

    def _take_response(self, call: "_Call", response: InferResponse) -> None:
        step = call.step
        iteration = call.iteration
        if self._members[step.index].decoupled:
            iteration = self._iterations[step.index]
            self._iterations[step.index] += 1
        sequence = call.request.sequence
        if response.parameters:
            try:
                sequence = _sequence(response.parameters, sequence)
            except InvalidArgument as error:
                self._fail(error, step)
                return
        made = {tensor.name: tensor for tensor in response.outputs}
        for output, name in step.outputs.items():
            self._keep(name, iteration, made.get(output), call.batch_size, sequence)
        self._advance(step.outputs.values(), iteration)
        if self._at_gates and call.request in self._under_way and call.request.hold is not None:
            self._holding.add(call.request)
            call.request.hold(True)

    def passed(self) -> None:
        """Note that a request has passed its gate; when none waits any more, the members go on."""
        self._at_gates -= 1
        if not self._at_gates:
            self._go_on()

    def _go_on(self) -> None:
        holding, self._holding = self._holding, set()
        for request in holding:
            if request.hold is not None:
                request.hold(False)

    def _keep(self, name: str, iteration: int, tensor: Tensor | None, batch_size: int, sequence: SequenceStep) -> None:
        takers = self._course.takers.get(name)
        if takers is not None:
            self._values[self._key(name, iteration)] = _Value(tensor, batch_size, sequence, len(takers))

    def _key(self, name: str, iteration: int) -> tuple[str, int]:
        return (name, iteration if name in self._course.streams else _ONCE)

    def _advance(self, arrived: Iterable[str], iteration: int) -> None:
        """Start the steps, and send the responses, that lacked only what has just arrived."""
        calls: list[_Call] = []
        for name in arrived:
            for taker, at in self._completed(name, iteration):
                if taker == CLIENT:
                    self._held[at] = self._response(at)
                else:
                    calls.append(self._call(self._steps[taker], at))
        # All are under way before the first is submitted: it may be answered before `submit` returns.
        self._under_way.update(call.request for call in calls)
        for call in calls:
            if self._finished:
                return
            if call.gate is not None:
                self._at_gates += 1
                call.gate.enter(call)
            else:
                self.submit(call)
        self._flush()

    def submit(self, call: "_Call") -> None:
        """Hand a step's request to its member, or to what has taken the member's place."""
        step = call.step
        member = self._members[step.index]
        if not member.ready:
            try:
                member = self._members[step.index] = self._resolve(step.model, step.version)
            except InferenceError as error:
                call.send(error.with_traceback(None), final=True)
                return
        member.submit(call.request, call)

    def abort(self, error: InferenceError) -> None:
        """Answer a request that cannot be carried out."""
        self._fail(error)

    def _completed(self, name: str, iteration: int) -> Iterator[tuple[int, int]]:
        """Yield who has all its tensors now, for which iteration, a tensor having arrived."""
        course, single, many = self._course, self._single_missing, self._many_missing
        for taker in course.takers.get(name, ()):
            if name in course.streams:
                missing = many[taker, iteration] = many.get((taker, iteration), course.many[taker]) - 1
                if not missing and not single[taker]:
                    yield taker, iteration
                continue
            single[taker] -= 1
            if single[taker]:
                continue
            if not course.many[taker]:
                yield taker, _ONCE
            else:
                yield from sorted((who, at) for (who, at), missing in many.items() if who == taker and not missing)

    def _take(self, name: str, iteration: int) -> _Value:
        """Return a tensor to one of its takers; the last one takes a stream's tensor away."""
        key = self._key(name, iteration)
        value = self._values[key]
        value.takers -= 1
        if not value.takers and key[1] != _ONCE:
            del self._values[key]
        return value

    def _call(self, step: Step, iteration: int) -> "_Call":
        request, member = self._request, self._members[step.index]
        config = member.config
        if iteration != _ONCE:
            del self._many_missing[step.index, iteration]
        sequence = request.sequence
        taken: dict[str, _Value] = {}
        inputs: list[Tensor] = []
        for name, source in step.inputs.items():
            value = taken.get(source)
            if value is None:
                value = taken[source] = self._take(source, iteration)
            if value.sequence is not request.sequence:
                sequence = value.sequence
            tensor = value.tensor
            if tensor is not None:
                shape = tensor.shape
                if config.batches != bool(value.batch_size):
                    shape = _convert(shape, config.inputs[name].dims, value.batch_size, batches=config.batches)
                inputs.append(Tensor(name, tensor.datatype, shape, tensor.data))
        batch_size = inputs[0].shape[0] if config.batches and inputs and inputs[0].shape else 0
        inner = InferRequest(
            member.name,
            member.version,
            request.id,
            inputs,
            step.requested,
            request.parameters,
            sequence,
            request.priority,
            request.timeout_us,
            request.arrival_ns,
            measured=self._measured,
            trace=request.trace and request.trace.child(),
            wait=request.wait,
        )
        return _Call(self, step, iteration, inner, batch_size, self._gates[step.index] if self._gates else None)

    def _response(self, iteration: int) -> InferResponse:
        config = self._config
        response = InferResponse(config.name, self._version, self._request.id)
        for name in self._course.outputs:
            value = self._take(name, iteration)
            tensor = value.tensor
            if tensor is None:
                self._note(f"Composing models did not output tensor {name}")
                continue
            shape = tensor.shape
            if config.batches != bool(value.batch_size):
                shape = _convert(shape, config.outputs[name].dims, value.batch_size, batches=config.batches)
            response.outputs.append(Tensor(name, tensor.datatype, shape, tensor.data))
            response.parameters["sequence_id"] = value.sequence.correlation_id
            response.parameters["sequence_start"] = value.sequence.start
            response.parameters["sequence_end"] = value.sequence.end
        if self._request.trace is not None:
            self._request.trace.see("TENSOR_BACKEND_OUTPUT", response.outputs)
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
            self._answered = True
            self._finished = not self._under_way and not self._held
            self._reply.send(response, final=self._finished)
        if self._under_way:
            return
        if self._finished:
            self._end(None)
        elif self._answered or self._course.streams:
            self._finished = True
            self._reply.send(None, final=True)
            self._end(None)
        else:
            self._fail(
                InvalidArgument(
                    f"{self._request.about}unexpected deadlock, at least one output is not set while no more "
                    "ensemble steps can be made"
                )
            )

    def _fail(self, error: InferenceError, step: Step | None = None) -> None:
        if self._finished:
            return
        self._finished = True
        hint = error.hint
        if step is not None:
            # Triton's words do not say which step it was.
            hint = f"in step {step.index}, model '{step.model}'" + (f": {hint}" if hint else "")
        told = type(error)(f"in ensemble '{self._config.name}', {error.message}", hint)
        self._reply.send(told, final=True)
        self._end(told)
        under_way, self._under_way = self._under_way, set()
        # A member that streams on although it is cancelled keeps this run, but not what has piled up in it.
        self._values.clear()
        self._held.clear()
        self._go_on()
        for request in under_way:
            request.cancel()

    def _end(self, error: InferenceError | None) -> None:
        self._request.forget(self._cancel)
        self._ended(error)

    def _cancel(self) -> None:
        self._fail(Cancelled("the request was cancelled"))


class _Call:
    """One request to a member, and the reply it answers to."""

    __slots__ = ("batch_size", "gate", "iteration", "request", "run", "step")

    def __init__(
        self,
        run: EnsembleRun,
        step: Step,
        iteration: int,
        request: InferRequest,
        batch_size: int,
        gate: StepGate | None,
    ) -> None:
        self.run = run
        self.step = step
        self.iteration = iteration
        self.request = request
        self.batch_size = batch_size
        self.gate = gate

    @property
    def wanted(self) -> bool:
        """Tell whether anybody still waits for the answer."""
        return not self.run.finished

    def submit(self) -> None:
        """Start the request; it has passed its gate."""
        self.run.passed()
        self.run.submit(self)

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Pass a member's response to the run."""
        self.run.deliver(self, response, final=final)
        if final and self.gate is not None:
            self.gate.leave()


def _convert(shape: tuple[int, ...], dims: Sequence[int], batch_size: int, *, batches: bool) -> tuple[int, ...]:
    """Add or take off a batch dimension of 1 between two models of which only one batches."""
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
