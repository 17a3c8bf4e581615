"""What a completion's text is made of, and what takes it apart.

    text -> OutputReader -> Reasoning, Content, ToolCall, ToolArguments

Chat completions, responses and messages are three ways of writing the same pieces.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text that the model thought before it answered."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call begins; `index` counts the calls of a completion from 0, `id` is what the tool's answer refers to."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolArguments:
    """More of a call's arguments: the fragments of an index, joined, are the JSON text of an object."""

    index: int
    fragment: str


Piece = Content | Reasoning | ToolCall | ToolArguments


class OutputReader(Protocol):
    """Reads one completion.

    Contract: however the text is cut into pushes, the pieces say the same once neighbours of a kind are joined; no
    piece is empty; no fragment ends within a JSON escape; text that is no well-formed call comes as Content.
    """

    @property
    def settled(self) -> bool:
        """Tell whether all that is still to come is Content, unchanged: it need not pass through here any more."""
        ...

    @property
    def rests_in(self) -> type[Content] | type[Reasoning] | None:
        """Return as what text with nothing notable in it (see Reading) would come out, unchanged; None: not at rest.

        Such text need not pass through here either, as long as nothing else has.
        """
        ...

    def push(self, text: str) -> list[Piece]:
        """Take more text and return what it makes certain."""
        ...

    def end(self) -> list[Piece]:
        """Return what was held back: the text is over."""
        ...
