"""What the protocols ask of the models: one by name, all of them, and the control of loading.

`repository.registry` is the catalog of a server; tests make smaller ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tritium.core.model import Model, State


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index; a model that never loaded has neither version nor state."""

    name: str
    version: str = ""
    state: State | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LoadParameters:
    """What a load request carries: a configuration in JSON, and files by path relative to the model directory."""

    config: str = ""
    files: dict[str, bytes] = field(default_factory=dict)


class Catalog(Protocol):
    """The models of a server.

    Contract: lookups are from memory and never wait. `model("m")` is the newest ready version.
    """

    @property
    def ready(self) -> bool:
        """Tell whether the server as a whole is ready, by the rules of --strict-readiness."""
        ...

    @property
    def starting(self) -> bool:
        """Tell whether the models that the server begins with are still being loaded."""
        ...

    def model(self, name: str, version: str = "") -> Model:
        """Return a loaded version.

        Raises:
            NotFound: Request for unknown model (Triton's words, with the version where one was named).
            Unavailable: the model is known but not ready to take requests.
        """
        ...

    def models(self) -> Sequence[Model]:
        """Return every loaded version of every model, by name and version."""
        ...

    def versions(self, name: str) -> Sequence[str]:
        """Return the loaded versions of a model, ascending by number."""
        ...

    def index(self, *, ready_only: bool = False) -> Sequence[IndexEntry]:
        """Return the repository index."""
        ...

    async def load(self, name: str, parameters: LoadParameters) -> None:
        """Load or reload a model from its repository, without losing a request to the versions it replaces.

        Raises:
            InferenceError: in Triton's words; Unavailable where the control mode forbids it.
        """
        ...

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        """Unload every version of a model, and with `dependents` the members only it used."""
        ...


class Repositories(Protocol):
    """The folders that a server takes models from, changed while it runs."""

    def register(self, folder: str, names: Mapping[str, str]) -> None:
        """Take models from one more folder; those in the subfolders that `names` has go by the names it gives.

        Raises:
            AlreadyExists: that folder, or a model renamed to that, is there already.
            InvalidArgument: there is no such folder.
        """
        ...

    def unregister(self, folder: str) -> None:
        """Take no more models from a folder that was registered; those that are loaded stay.

        Raises:
            InvalidArgument: it is not registered.
        """
        ...
