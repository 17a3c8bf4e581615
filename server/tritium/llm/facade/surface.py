"""What a surface is: the tensors by which one kind of Triton backend took prompts and gave text.

    InferRequest -> Surface.read -> Call(asks, answers) -> Run -> Answers.respond, a step at a time -> responses

A surface reads and writes; it starts nothing. `run.Run` does that, alike for all of them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tritium.backends.engine import Delta, Media
from tritium.cluster.fleet import Fleet
from tritium.compat.config.model import ModelConfig
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor
from tritium.llm.sampling import Sampling
from tritium.llm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tritium.llm.facade.run import Completion, Run


class Target(Protocol):
    """The language model behind a surface."""

    fleet: Fleet
    tokenizer: Tokenizer
    loras: dict[str, str]
    """Path of each adapter that requests may use, by name."""

    @property
    def name(self) -> str:
        """Return its own name, whatever it was called by."""
        ...

    @property
    def timeout_s(self) -> float:
        """Return how long a request in tensors may take, to its last token; 0 for any time."""
        ...


class Follower(Protocol):
    """Follows the tokens of one sequence and knows when it is over, beyond what the engine says."""

    finish: str | None
    """Why it is over, once it is."""

    @property
    def stop_reason(self) -> str | int | None:
        """Return the stop string or the token that ended it, where one did."""
        ...

    def push(self, delta: Delta) -> str:
        """Take what a step added, and return the text that is safe to send."""
        ...

    def kept(self, delta: Delta) -> int:
        """Return how many of a delta's tokens, just pushed, belong to the answer."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt of a request, as text or as token ids, and how to go on from it; `field` is the input it came in."""

    prompt: str | Sequence[int]
    sampling: Sampling
    field: str = "text_input"
    lora: str = ""
    media: Sequence[Media] = ()
    follow: Callable[[Tokenizer, Sampling, Sequence[int]], Follower] | None = None
    """Makes what follows each of its sequences; None for `text.CompletionText`."""


class Answers(Protocol):
    """Writes the responses to one request."""

    def respond(self, moved: "Completion", run: "Run") -> list[Tensor] | None:
        """Return the outputs of the response that is due now that a sequence has moved; None where none is."""
        ...


@dataclass(frozen=True, slots=True)
class Generate:
    """Sequences to generate."""

    asks: Sequence[Ask]
    answers: Answers
    streams: bool = False
    """It has a response a step."""
    stoppable: bool = False
    """Another request of its id may stop it; it answers with what it has by then."""


@dataclass(frozen=True, slots=True)
class Embed:
    """One text, or token ids, to turn into a vector; `outputs` makes tensors of it and of the count of its tokens."""

    prompt: str | Sequence[int]
    outputs: Callable[[Sequence[float], int], list[Tensor]]
    field: str
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """The wish that the requests of the same id stop."""


Call = Generate | Embed | Stop


class Surface(Protocol):
    """The tensors of one kind of backend."""

    def complete(self, config: ModelConfig) -> ModelConfig:
        """Add the inputs and outputs that a configuration leaves out; what it has stays as it is."""
        ...

    def read(self, request: InferRequest, config: ModelConfig, target: Target) -> Call:
        """Read a request that has passed the check of names, datatypes and shapes.

        Raises:
            InferenceError: a value makes no sense, or asks for what is not served.
        """
        ...
