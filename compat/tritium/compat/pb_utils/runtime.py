"""What a model's process lends these classes: the way to the server. Bound once, before the model is imported."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tritium.compat.pb_utils.request import InferenceRequest
    from tritium.compat.pb_utils.response import InferenceResponse


class Pending(Protocol):
    """The responses to one call of another model, as they come."""

    def take(self) -> "InferenceResponse | None":
        """Wait for the next response and return it; None once there are no more."""
        ...

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back once `take` would not wait, from whatever thread learns it."""
        ...

    def cancel(self) -> None:
        """Ask the other model to stop."""
        ...


class Runtime(Protocol):
    """The process around the model. Every method may be called on any thread."""

    model_folder: str
    decoupled: bool

    def send(self, key: int, response: "InferenceResponse | None", *, final: bool) -> None:
        """Send one response to a request."""
        ...

    def dropped(self, key: int) -> None:
        """Note that nobody can answer a request any more."""
        ...

    def cancelled(self, key: int) -> bool:
        """Tell whether the client took the request back."""
        ...

    def call(self, request: "InferenceRequest", *, decoupled: bool) -> Pending:
        """Run a request on another model."""
        ...

    def control(self, verb: str, model_name: str, **details: str | bool | dict[str, bytes]) -> bool:
        """Load or unload a model, or ask whether it is ready, and wait for the outcome.

        Raises:
            TritonModelException: the server refused.
        """
        ...

    def log(self, level: str, message: str) -> None:
        """Write to the server's log."""
        ...

    def define_metric(
        self, family: str, description: str, kind: str, labels: dict[str, str], buckets: list[float]
    ) -> int:
        """Define a metric and return its number."""
        ...

    def change_metric(self, metric: int, verb: str, value: float) -> None:
        """Report a change of a metric."""
        ...


_bound: list[Runtime] = []


def bind(runtime: Runtime) -> None:
    """Let these classes speak through `runtime`."""
    _bound[:] = [runtime]


def runtime() -> Runtime:
    """Return the bound runtime.

    Raises:
        RuntimeError: outside a model's process.
    """
    if not _bound:
        raise RuntimeError("triton_python_backend_utils can reach the server only inside a model's process")
    return _bound[0]
