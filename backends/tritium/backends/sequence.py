"""The sequence backend: adds up the numbers of each sequence, told apart by their places in the batch.

For trying and testing the direct strategy. READY and START say what a place holds; the sum so far is in every element
of OUTPUT. `parameters` as in Triton's sequence backend: execute_delay_ms.
"""

import asyncio
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.trial import TrialBackend, check_place, whole_number
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InferenceError, InvalidArgument
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.request import InferRequest, InferResponse
from tritium.core.tensor import Tensor

_INT32 = 1 << 32


class SequenceBackend(TrialBackend):
    """Opens sequence instances; see `contract.TensorBackend`."""

    name = "sequence"

    async def open(
        self,
        source: ModelSource,
        place: InstancePlace,
        host: BackendHost,  # noqa: ARG002  the contract's; a sequence model asks nothing of the server
    ) -> "SequenceInstance":
        """Make an instance.

        Raises:
            InvalidArgument: the tensors or controls are not those of a sequence model.
        """
        check_controls(source.config, ("START", "READY"), "'START' and 'READY'")
        check_vectors(source.config)
        check_place(place, self.name)
        return SequenceInstance(place.name, source)


class AccumulatingInstance(ABC):
    """An instance that computes one answer a request, after a delay an execution; see `core.instance.Instance`."""

    healthy = True

    def __init__(self, name: str, source: ModelSource, delay_s: float = 0.0) -> None:
        self.name = name
        self.depth = 1
        self._model = source.config.name
        self._version = source.version
        self._delay_s = delay_s

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes | None:
        """Answer a batch, after the configured delay."""
        start_ns = time.monotonic_ns()
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        for place, job in enumerate(jobs):
            try:
                response: InferResponse | InferenceError = InferResponse(
                    self._model, self._version, outputs=self._outputs(place, job)
                )
            except InferenceError as error:
                response = error.with_traceback(None)
            job.reply.send(response, final=not job.again)
        return ExecutionTimes(0, time.monotonic_ns() - start_ns, 0)

    async def close(self) -> None:  # noqa: B027 - having nothing to free is the rule
        """Hold nothing, free nothing."""

    @abstractmethod
    def _outputs(self, place: int, job: Job) -> list[Tensor]:
        """Compute the outputs of the request at a place in the batch."""


class SequenceInstance(AccumulatingInstance):
    """Keeps a sum for every place in the batch."""

    def __init__(self, name: str, source: ModelSource) -> None:
        super().__init__(name, source, delay_of(source.config))
        self._sums: dict[int, int] = {}

    def _outputs(self, place: int, job: Job) -> list[Tensor]:
        request = job.request
        if not integers(request, "READY")[0]:
            return []
        before = 0 if integers(request, "START")[0] else self._sums.get(place, 0)
        self._sums[place] = before + sum(integers(request, "INPUT"))
        return [everywhere(request, self._sums[place])]


def integers(request: InferRequest, name: str) -> tuple[int, ...]:
    """Return the elements of an INT32 input."""
    tensor = request.input(name)
    assert tensor is not None, "the configuration asks for it, or the sequence batcher adds it"
    return struct.unpack(f"<{tensor.size_bytes // 4}i", tensor.data)


def everywhere(request: InferRequest, value: int) -> Tensor:
    """Return an OUTPUT of INPUT's shape that holds a number, within 32 bits, in every element."""
    given = request.input("INPUT")
    assert given is not None, "the configuration asks for it"
    element = (value % _INT32).to_bytes(4, "little")
    return Tensor("OUTPUT", "INT32", given.shape, element * (given.size_bytes // 4))


def delay_of(config: ModelConfig) -> float:
    """Return the execute_delay_ms of a model, in seconds.

    Raises:
        InvalidArgument: it is not a number.
    """
    return whole_number(config, "execute_delay_ms") / 1000


def check_vectors(config: ModelConfig) -> None:
    """Refuse a configuration whose tensors are not one INT32 vector INPUT and one like it named OUTPUT.

    Raises:
        InvalidArgument: in Triton's words.
    """
    inputs, outputs = list(config.inputs.values()), list(config.outputs.values())
    if len(inputs) != 1 or len(inputs[0].dims) != 1:
        raise InvalidArgument("model must have input 'INPUT' with vector shape, any length")
    if len(outputs) != 1:
        raise InvalidArgument("model must have one output 'OUTPUT' with vector shape, any length")
    if outputs[0].dims != inputs[0].dims:
        raise InvalidArgument("model must have output 'OUTPUT' with shape matching 'INPUT'")
    for spec, what, name in ((inputs[0], "input", "INPUT"), (outputs[0], "output", "OUTPUT")):
        if spec.datatype != "INT32":
            raise InvalidArgument(f"model {what} must have TYPE_INT32 data-type")
        if spec.name != name:
            raise InvalidArgument(f"model {what} must be named '{name}'")


def check_controls(config: ModelConfig, wanted: Collection[str], said: str) -> None:
    """Refuse a configuration that has other control inputs; `said` is how Triton lists those it wants.

    Raises:
        InvalidArgument: in Triton's words.
    """
    if {control.name for control in config.proto.sequence_batching.control_input} != set(wanted):
        raise InvalidArgument(f"{said} must be configured as the control inputs")
