"""What is sent to a server and what comes back, the same for HTTP and gRPC.

An `Inference` is made here and either protocol can carry it; a `Captured` was recorded and goes out as it came.
"""

from dataclasses import dataclass, field
from typing import Any

from tritium.migration.comparing.tensor import Tensor

Parameter = str | int | bool | float


@dataclass(frozen=True, slots=True)
class Inference:
    """One inference that is made up: `about` says why, `streamed` asks for a stream of answers."""

    model: str
    about: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    """Asked for by name; none asks for all."""
    parameters: tuple[tuple[str, Parameter], ...] = ()
    streamed: bool = False
    sequence: int = 0
    """Which sequence of the run it belongs to; 0 is none. The correlation id is drawn when it is sent."""
    starts: bool = False
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Captured:
    """One recorded call: an HTTP request, or the messages of a gRPC call."""

    protocol: str
    model: str
    about: str
    path: str
    """HTTP: the path with its query; gRPC: the method's full name."""
    headers: tuple[tuple[str, str], ...] = ()
    messages: tuple[bytes, ...] = ()
    """HTTP: the body as the only one."""
    refused: str = ""
    """Why it cannot be sent again."""


Call = Inference | Captured


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: its tensors, and what else it said (the other members of a JSON object)."""

    tensors: tuple[Tensor, ...] = ()
    document: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call: answers in order, or the error that ended them; times in seconds."""

    answers: tuple[Answer, ...] = ()
    status: str = "ok"
    """`ok`, an HTTP status such as `400`, or a gRPC code such as `INVALID_ARGUMENT`."""
    message: str = ""
    took_s: float = 0.0
    first_s: float = 0.0
    """Until the first answer."""

    @property
    def failed(self) -> bool:
        """Tell whether it ended in an error."""
        return self.status != "ok"


class Unreachable(Exception):
    """A server does not answer at all, or not as one that speaks KServe v2."""
