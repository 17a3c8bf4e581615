"""The identity backend: every output is the input of the same index, byte for byte and without a copy.

For trying and testing a server apart from models. `parameters` as in Triton's identity backend: execute_delay_ms,
instance_wise_delay_multiplier (the delay times the instance's number times this), creation_delay_sec. As there, the
output of an optional input that was not given is zeros, responses carry four parameters, and input bytes are counted.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.metrics import CustomMetric, CustomMetrics, MetricKind
from tritium.backends.trial import TrialBackend, check_place, whole_number
from tritium.compat.config.model import ModelConfig, TensorSpec
from tritium.compat.datatypes import BY_NAME
from tritium.core.errors import InvalidArgument
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.request import InferRequest, InferResponse, Parameter
from tritium.core.tensor import Tensor
from tritium.core.trace import TracedRequest

_COUNTER: Final = "input_byte_size_counter"
_PARAMETERS: Final[dict[str, Parameter]] = {
    "param0": "an example string parameter",
    "param1": 42,
    "param2": False,
    "param3": 123.123,
}


class IdentityBackend(TrialBackend):
    """Opens identity instances; see `contract.TensorBackend`."""

    name = "identity"

    async def open(
        self,
        source: ModelSource,
        place: InstancePlace,
        host: BackendHost,
    ) -> "IdentityInstance":
        """Make an instance.

        Raises:
            InvalidArgument: inputs and outputs are not pairs, or a parameter is not a number.
        """
        check_place(place, self.name)
        config = source.config
        delay_s = whole_number(config, "execute_delay_ms") / 1000
        multiplier = whole_number(config, "instance_wise_delay_multiplier")
        if multiplier:
            delay_s *= max(1, _ordinal(place.name) * multiplier)
        pairs, creation_delay_s = _pairs(config), whole_number(config, "creation_delay_sec")
        await asyncio.sleep(creation_delay_s)
        return IdentityInstance(place.name, source, pairs, delay_s, host.metrics)


@dataclass(frozen=True, slots=True)
class _Tracing:
    """What the model notes in traces, to try them: a moment, a span, and spans within each other."""

    nested: int
    every: int

    @classmethod
    def of(cls, config: ModelConfig) -> "_Tracing | None":
        """Read enable_custom_tracing, nested_span_count and single_activity_frequency."""
        if config.parameter("enable_custom_tracing", "") != "true":
            return None
        return cls(whole_number(config, "nested_span_count"), whole_number(config, "single_activity_frequency"))

    def note(self, trace: TracedRequest) -> None:
        """Note everything at once."""
        trace.note("CUSTOM_SINGLE_ACTIVITY")
        trace.note("CUSTOM_ACTIVITY_START")
        trace.note("CUSTOM_ACTIVITY_END")
        for n in range(self.nested):
            trace.note(f"CUSTOM_ACTIVITY{n}_START")
            if self.every and n % self.every == 0:
                trace.note("CUSTOM_SINGLE_ACTIVITY")
        for n in reversed(range(self.nested)):
            trace.note(f"CUSTOM_ACTIVITY{n}_END")


class IdentityInstance:
    """Answers every request with its own inputs; see `core.instance.Instance`."""

    healthy = True

    def __init__(
        self, name: str, source: ModelSource, pairs: dict[str, str], delay_s: float, metrics: CustomMetrics
    ) -> None:
        config = source.config
        self.name = name
        self.depth = 1
        self._model = config.name
        self._version = source.version
        self._batches = config.batches
        self._pairs = pairs
        self._optional = [spec for spec in config.inputs.values() if spec.optional]
        self._delay_s = delay_s
        self._tracing = _Tracing.of(config)
        self._metrics = metrics
        self._owner = f"identity {id(self)}"
        self._input_bytes = self._counter()

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes | None:
        """Answer a batch, after the configured delay."""
        start_ns = time.monotonic_ns()
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        infer_ns = time.monotonic_ns()
        for job in jobs:
            if self._tracing is not None and job.request.trace is not None:
                self._tracing.note(job.request.trace)
            response = InferResponse(
                self._model, self._version, outputs=self._outputs(job.request), parameters=dict(_PARAMETERS)
            )
            job.reply.send(response, final=True)
        return ExecutionTimes(0, infer_ns - start_ns, time.monotonic_ns() - infer_ns)

    async def close(self) -> None:
        """Take the counter back; there is nothing else to free."""
        self._metrics.disown(self._owner)

    def _outputs(self, request: InferRequest) -> list[Tensor]:
        pairs, outputs, size_bytes = self._pairs, [], 0
        for tensor in request.inputs:
            if tensor.name in pairs:
                outputs.append(Tensor(pairs[tensor.name], tensor.datatype, tensor.shape, tensor.data))
                size_bytes += tensor.size_bytes
        self._input_bytes.value += size_bytes
        if self._optional:
            given = {tensor.name for tensor in request.inputs}
            batch = request.inputs[0].shape[:1] if self._batches and request.inputs else ()
            outputs += [_zeros(pairs[spec.name], spec, batch) for spec in self._optional if spec.name not in given]
        return outputs

    def _counter(self) -> CustomMetric:
        text = "Cumulative input byte size of all requests received by the model"
        self._metrics.define_family(self._owner, _COUNTER, text, MetricKind.COUNTER)
        return self._metrics.define(self._owner, _COUNTER, {"model": self._model, "version": self._version})


def _zeros(name: str, spec: TensorSpec, batch: tuple[int, ...]) -> Tensor:
    """Return what the output of an input that was not given is: zeros, or empty strings."""
    shape = (*batch, *(1 if dim == -1 else dim for dim in _model_shape(spec)))
    element_bytes = BY_NAME[spec.datatype].size_bytes or 4  # an empty string is the four bytes of its length
    return Tensor(name, spec.datatype, shape, bytes(math.prod(shape) * element_bytes))


def _pairs(config: ModelConfig) -> dict[str, str]:
    """Return the output of each input by name, in Triton's words where they do not pair up."""
    if len(config.inputs) != len(config.outputs):
        raise InvalidArgument("model configuration must have equal input/output pairs")
    inputs = {_index(spec, "INPUT", "input"): spec for spec in config.inputs.values()}
    pairs: dict[str, str] = {}
    for output in config.outputs.values():
        source = inputs.get(_index(output, "OUTPUT", "output"))
        if source is None:
            raise InvalidArgument("expected input and output indices to match")
        if source.datatype != output.datatype:
            raise InvalidArgument(
                f"expected input and output datatype to match, got {source.datatype} and {output.datatype}"
            )
        if _model_shape(source) != _model_shape(output):
            raise InvalidArgument(
                "expected input and output shape to match, got "
                f"{list(_model_shape(source))} and {list(_model_shape(output))}"
            )
        pairs[source.name] = output.name
    return pairs


def _index(spec: TensorSpec, prefix: str, what: str) -> str:
    if not spec.name.startswith(prefix):
        raise InvalidArgument(f"expected {what} name to follow {prefix}<index> pattern, got '{spec.name}'")
    return spec.name[len(prefix) :]


def _model_shape(spec: TensorSpec) -> tuple[int, ...]:
    return spec.dims if spec.reshape is None else spec.reshape


def _ordinal(instance_name: str) -> int:
    """Return the number at the end of an instance's name."""
    tail = instance_name.rpartition("_")[2]
    return int(tail) if tail.isdigit() else 0
