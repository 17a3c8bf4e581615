"""A servable model version: what every protocol talks to, whatever runs behind it.

    LOADING --ok--> READY --unload--> UNLOADING --idle--> UNAVAILABLE
       |              ^ |
       |     restarted| |all instances lost
       |              | v
       +--error--> UNAVAILABLE

State names are those of Triton's repository index.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum

from tritium.compat.config.model import ModelConfig
from tritium.core.request import InferRequest, Reply
from tritium.core.statistics import Statistics


class State(StrEnum):
    """The state of one version, spelt as the repository index spells it."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


class Model(ABC):
    """One version of one model.

    Contract: `submit` never blocks and never raises; whatever goes wrong is sent through the reply. It checks the
    request against the configuration (names, datatypes, shapes, batch size, byte sizes) before queueing it.
    """

    name: str
    version: str
    config: ModelConfig
    statistics: Statistics
    namespace: str = ""
    """The repository that is the model's namespace, where repositories are."""
    aliases: Sequence["Model"] = ()
    """The same model by other names; they come and go with it."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Tell whether a request submitted now can run."""

    @property
    def decoupled(self) -> bool:
        """Tell whether a request may have any number of responses."""
        return self.config.decoupled

    @property
    def answers_once(self) -> bool:
        """Tell whether infer is served, which takes a single response."""
        return not self.decoupled

    @property
    def nesting(self) -> int:
        """Return how many ensembles a request of this model may be in at a time, this one included."""
        return 0

    async def awake(self) -> "Model":
        """Return the model with its whole configuration: itself, or what a model on demand is once it is loaded.

        Raises:
            InferenceError: it cannot be loaded.
        """
        return self

    @abstractmethod
    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Check the request, queue it, and answer it through `reply`."""

    @abstractmethod
    async def close(self) -> None:
        """Refuse new requests, finish those that run, then free the instances."""
