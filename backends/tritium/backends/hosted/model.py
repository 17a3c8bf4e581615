"""The class that a process runs for a backend of ours: it loads a model, then executes batches of arrays."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from tritium.backends.hosted.batch import Batch, Value, gather, scatter
from tritium.backends.hosted.configured import Configured, Refused, read_arguments
from tritium.compat.pb_utils import InferenceRequest, InferenceResponse, TritonError


class HostedModel(ABC):
    """A model in its process. A module that a backend runs names its subclass TritonPythonModel."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Load the model.

        Raises:
            Refused: it cannot be loaded, or its configuration does not fit it.
        """
        self.model = read_arguments(arguments)
        self._ragged = frozenset(port.name for port in self.model.inputs.values() if port.ragged)
        self.load(self.model)

    def execute(self, requests: Sequence[InferenceRequest]) -> list[InferenceResponse]:
        """Run requests as one batch; a failure is that of all of them."""
        try:
            batch = gather(requests, self._ragged, batches=self.model.batches)
            return scatter(batch, self.run(batch))
        except Refused as refused:
            return [InferenceResponse(error=TritonError(str(refused), refused.code)) for _ in requests]

    @abstractmethod
    def load(self, model: Configured) -> None:
        """Load the model's file and check the configuration against it.

        Raises:
            Refused: either is wrong.
        """

    @abstractmethod
    def run(self, batch: Batch) -> Mapping[str, Value]:
        """Compute the outputs of a batch, by the names of the configuration.

        Raises:
            Refused: the model failed, or gave what the configuration does not say.
        """
