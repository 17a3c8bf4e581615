"""What a model's process lends these classes: the way to the server.

Bound once where a process is one model's; where models share one, lent to the module of each.
"""

import sys
from collections.abc import Callable
from types import FrameType
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

    def free_memory(self) -> int:
        """Return the bytes of shared memory that are set aside and hold nothing."""
        ...

    def log(self, level: str, message: str) -> None:
        """Write to the server's log."""
        ...

    def define_family(self, name: str, description: str, kind: str) -> None:
        """Define a family of metrics.

        Raises:
            TritonModelException: the server refused.
        """
        ...

    def define_metric(self, family: str, kind: str, labels: dict[str, str], buckets: list[float]) -> int:
        """Define a metric and return its number.

        Raises:
            TritonModelException: the server refused.
        """
        ...

    def read_metric(self, metric: int) -> float:
        """Return the value of a counter or gauge."""
        ...

    def drop_metric(self, metric: int) -> None:
        """Note that the model no longer refers to a metric."""
        ...

    def change_metric(self, metric: int, verb: str, value: float) -> None:
        """Report a change of a metric."""
        ...


_bound: list[Runtime] = []
_lent: dict[str, Runtime] = {}
"""By the names of modules, where models share a process."""


def bind(runtime: Runtime) -> None:
    """Let these classes speak through `runtime`: this process is one model's."""
    _bound[:] = [runtime]


def lend(module: str, runtime: Runtime) -> None:
    """Let these classes speak through `runtime` where the module of that name calls them, directly or not."""
    _lent[module] = runtime


def take_back(module: str) -> None:
    """Undo `lend`."""
    _lent.pop(module, None)


def runtime() -> Runtime:
    """Return the runtime of the model that calls.

    Raises:
        RuntimeError: outside a model, or on a thread that nothing in the model's own module started.
    """
    if _bound:
        return _bound[0]
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # the documented way to ask who calls
    while frame is not None:
        found = _lent.get(frame.f_globals.get("__name__", ""))
        if found is not None:
            return found
        frame = frame.f_back
    if len(_lent) == 1:
        return next(iter(_lent.values()))
    if _lent:
        raise RuntimeError(
            "several models share this process, and which of them calls triton_python_backend_utils cannot be told "
            "on this thread: start it with a function of model.py, or let the model have a process of its own"
        )
    raise RuntimeError("triton_python_backend_utils can reach the server only inside a model's process")
