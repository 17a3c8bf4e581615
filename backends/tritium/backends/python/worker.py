"""What runs the model of one instance, as the instance sees it: a process (`process_worker`), or this one (`local`).

    worker = ...Worker(...)  ->  load  ->  post, post_now ...  ->  finalize or kill

What the model says comes back through OnMessage, and that it was lost through OnLost.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from tritium.backends.python import frames
from tritium.core.tensor import Tensor

OnMessage = Callable[[frames.Up], None]
OnLost = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the steps of a start may take, in seconds."""

    start_s: float = 30.0
    initialize_s: float = 600.0


class Worker(Protocol):
    """Runs one model. All methods belong to one event loop, and so do the calls of OnMessage and OnLost."""

    name: str
    asks_ready: bool

    @property
    def pid(self) -> int:
        """Return the id of the process that the model runs in."""
        ...

    @property
    def begun(self) -> int:
        """Return the number of the last execution that the model has seen."""
        ...

    @property
    def stopped(self) -> bool:
        """Tell whether the process was stopped by a signal."""
        ...

    def give_up(self, said: str) -> None:
        """End a model that does not go on: it is lost, for the reason that is given."""
        ...

    @property
    def arenas_in_use(self) -> tuple[int, int]:
        """Return the bytes of requests that the model refers to, and the large tensors of responses still held here."""
        ...

    async def load(self, message: frames.Load, timeouts: Timeouts) -> frames.Loaded:
        """Load the model.

        Raises:
            ModelFailed: it cannot be loaded, in Triton's words where the model raised; the worker has ended.
        """
        ...

    def post(self, message: frames.Down) -> None:
        """Send a message; nothing happens where the worker has ended."""
        ...

    def post_now(self, message: frames.Down) -> None:
        """Send a message without waiting for others of this turn."""
        ...

    def encode_all(self, tensors: Iterable[Tensor]) -> list[frames.TensorFrame]:
        """Make the frames of several tensors, or of none.

        Raises:
            OSError: there is no memory for all of them.
        """
        ...

    def discard(self, encoded: Iterable[frames.TensorFrame]) -> None:
        """Take back the memory of frames that will not be sent."""
        ...

    def decode(self, frame: frames.TensorFrame) -> Tensor:
        """Make the tensor of a frame."""
        ...

    async def finalize(self) -> None:
        """Let the model finalize and wait for its end."""
        ...

    async def kill(self) -> None:
        """End it now."""
        ...
