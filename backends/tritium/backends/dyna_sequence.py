"""The dyna_sequence backend: adds up the numbers of each sequence, told apart by correlation id.

For trying and testing the oldest strategy. The sum so far is in every element of OUTPUT; the last request of a
sequence adds the correlation id to it. `parameters` as in Triton's dyna_sequence backend: execute_delay_ms.
"""

from collections.abc import Sequence

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.sequence import (
    AccumulatingInstance,
    check_controls,
    check_vectors,
    delay_of,
    everywhere,
    integers,
)
from tritium.backends.trial import TrialBackend, check_place
from tritium.compat.config.model import ModelConfig
from tritium.compat.datatypes import BY_CONFIG_VALUE
from tritium.core.errors import InvalidArgument, Unsupported
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.tensor import Tensor


class DynaSequenceBackend(TrialBackend):
    """Opens dyna_sequence instances; see `contract.TensorBackend`."""

    name = "dyna_sequence"

    async def open(
        self,
        source: ModelSource,
        place: InstancePlace,
        host: BackendHost,  # noqa: ARG002  the contract's; a dyna_sequence model asks nothing of the server
    ) -> "DynaSequenceInstance":
        """Make an instance.

        Raises:
            InvalidArgument: the tensors or controls are not those of a dyna_sequence model.
        """
        check_controls(source.config, ("START", "END", "READY", "CORRID"), "'START', 'END, 'READY' and 'CORRID'")
        _check_correlation_id(source.config)
        check_vectors(source.config)
        check_place(place, self.name)
        return DynaSequenceInstance(place.name, source)


class DynaSequenceInstance(AccumulatingInstance):
    """Keeps a sum for every sequence."""

    def __init__(self, name: str, source: ModelSource) -> None:
        super().__init__(name, source, delay_of(source.config))
        self._sums: dict[int, int] = {}
        self._seen: set[int] = set()

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes | None:
        """Answer a batch, in which a sequence may only be once."""
        self._seen.clear()
        return await super().execute(jobs)

    def _outputs(self, place: int, job: Job) -> list[Tensor]:  # noqa: ARG002 - sequences may be anywhere
        request = job.request
        if not integers(request, "READY")[0]:
            return []
        key = _number(request.input("CORRID"))
        if key in self._seen:
            raise Unsupported(
                "Execute() called with batch containing multiple inferences requests for the same Correlation ID"
            )
        self._seen.add(key)
        before = 0 if integers(request, "START")[0] else self._sums.get(key, 0)
        total = before + sum(integers(request, "INPUT"))
        if integers(request, "END")[0]:
            self._sums.pop(key, None)
            total += key
        else:
            self._sums[key] = total
        return [everywhere(request, total)]


def _number(tensor: Tensor | None) -> int:
    assert tensor is not None, "the sequence batcher adds it"
    value = tensor.array().item()
    if not isinstance(value, bytes):
        return int(value)
    try:
        return int(value)
    except ValueError:
        raise InvalidArgument("dyna sequence backend expects correlation ID to be decodable into an integer") from None


def _check_correlation_id(config: ModelConfig) -> None:
    for control_input in config.proto.sequence_batching.control_input:
        for control in control_input.control:
            datatype = BY_CONFIG_VALUE.get(control.data_type)
            if control_input.name == "CORRID" and (datatype is None or datatype.name not in ("UINT64", "BYTES")):
                raise InvalidArgument("model CORRID control input must have TYPE_UINT64 or TYPE_STRING data-type")
