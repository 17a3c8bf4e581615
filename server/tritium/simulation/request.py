"""What clients ask of a simulated fleet: lengths, times, and the names of blocks instead of tokens."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tritium.backends.mocker.journal import Block

_NO_TOKENS = array("I")

_OWN_BITS = 20
"""A request names fewer blocks by itself than two to this."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and how long its answer becomes.

    `blocks` names the full blocks of the prompt, and of the answer as far as another prompt may go on from it; equal
    names mean equal beginnings. What it does not name is this request's alone.
    """

    number: int
    """Its own among all of a workload."""
    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: Sequence[int]
    session: str = ""
    tenant: str = ""
    then: "Request | None" = None
    """What its client asks next: `at_s` of that is counted from the end of this answer."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in the order of their arrival, the same ones whenever `requests` is called."""

    name: str
    block_tokens: int
    requests: Callable[[], Iterator[Request]]


class NamedContent:
    """The content of a request's sequence for the scheduler, which sees names and no tokens."""

    __slots__ = ("_blocks", "_own")

    def __init__(self, request: Request) -> None:
        self._blocks = request.blocks
        self._own = -(request.number + 1) << _OWN_BITS

    def extend(self, chain: list[Block], length: int, block_tokens: int) -> None:
        """Append to `chain` those full blocks of the first `length` tokens that it does not have yet."""
        named = self._blocks
        for place in range(len(chain), length // block_tokens):
            name = named[place] if place < len(named) else self._own + place
            chain.append(Block(name, None, _NO_TOKENS, "", ""))
