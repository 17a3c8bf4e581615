"""The implicit_state backend: what a model may do with the state that the server keeps for it, by TEST_CASE.

    0  make a state that is not configured, which fails
    1  answer INPUT + INPUT_STATE, and leave the state as it is
    2  use the state's own buffer, without a word to the client
    3  return the state, 1 MiB longer at each request

For trying and testing implicit state, as Triton's backend of that name.
"""

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.sequence import AccumulatingInstance, check_controls, everywhere, integers
from tritium.backends.trial import TrialBackend
from tritium.core.errors import InvalidArgument
from tritium.core.instance import Job
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor

_BLOCK_BYTES = 1 << 20


class ImplicitStateBackend(TrialBackend):
    """Opens implicit_state instances; see `contract.TensorBackend`."""

    name = "implicit_state"

    async def open(
        self,
        source: ModelSource,
        place: InstancePlace,
        host: BackendHost,  # noqa: ARG002  the contract's; an implicit_state model asks nothing of the server
    ) -> "ImplicitStateInstance":
        """Make an instance.

        Raises:
            InvalidArgument: the controls are not those of an implicit_state model.
        """
        check_controls(source.config, ("START", "END", "READY"), "'START', 'END, and 'READY'")
        return ImplicitStateInstance(place.name, source)


class ImplicitStateInstance(AccumulatingInstance):
    """Carries out test cases; all it keeps is in the state."""

    def __init__(self, name: str, source: ModelSource) -> None:
        super().__init__(name, source)
        self._has_state = bool(source.config.proto.sequence_batching.state)

    def _outputs(self, place: int, job: Job) -> list[Tensor]:  # noqa: ARG002 - the state is in the request
        request = job.request
        match integers(request, "TEST_CASE")[0]:
            case 0:
                raise self._undefined()
            case 1:
                return [everywhere(request, integers(request, "INPUT")[0] + integers(request, "INPUT_STATE")[0])]
            case 3:
                return [_grown(request)]
        return []

    def _undefined(self) -> InvalidArgument:
        if self._has_state:
            return InvalidArgument("state 'undefined_state' is not a valid state name.")
        return InvalidArgument(
            f"unable to add state 'undefined_state'. State configuration is missing for model '{self._model}'."
        )


def _grown(request: InferRequest) -> Tensor:
    """Return the state with one block more, filled with the number of the blocks before."""
    state = request.input("INPUT_STATE")
    assert state is not None, "the server keeps it for the model"
    starts = bool(request.sequence.start)
    before = b"" if starts else bytes(state.data)
    data = before + bytes([len(before) // _BLOCK_BYTES % 128]) * _BLOCK_BYTES
    return Tensor("OUTPUT_STATE", "INT8", (len(data),), data)
