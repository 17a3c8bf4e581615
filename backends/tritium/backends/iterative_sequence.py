"""The iterative_sequence backend: counts INPUT down to 0, one response an execution, half a second each.

For trying and testing iterative sequences: after each response but the last it asks to execute the request again.
"""

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.sequence import AccumulatingInstance, everywhere, integers
from tritium.backends.trial import TrialBackend, check_place
from tritium.core.instance import Job
from tritium.core.tensor import Tensor

_EXECUTION_S = 0.5


class IterativeSequenceBackend(TrialBackend):
    """Opens iterative_sequence instances; see `contract.TensorBackend`."""

    name = "iterative_sequence"

    async def open(
        self,
        source: ModelSource,
        place: InstancePlace,
        host: BackendHost,  # noqa: ARG002  the contract's; an iterative_sequence model asks nothing of the server
    ) -> "IterativeSequenceInstance":
        """Make an instance.

        Raises:
            InvalidArgument: it is asked for on a GPU.
        """
        check_place(place, self.name)
        return IterativeSequenceInstance(place.name, source, _EXECUTION_S)


class IterativeSequenceInstance(AccumulatingInstance):
    """Keeps, for every sequence, how many responses are left."""

    def __init__(self, name: str, source: ModelSource, delay_s: float) -> None:
        super().__init__(name, source, delay_s)
        self._left: dict[int | str, int] = {}

    def _outputs(self, place: int, job: Job) -> list[Tensor]:  # noqa: ARG002 - sequences may be anywhere
        sequence = job.request.sequence
        if sequence.start or sequence.correlation_id not in self._left:
            self._left[sequence.correlation_id] = integers(job.request, "INPUT")[0]
        self._left[sequence.correlation_id] -= 1
        left = self._left[sequence.correlation_id]
        if left > 0:
            job.again = True
        else:
            del self._left[sequence.correlation_id]
        return [everywhere(job.request, left)]
