"""Where a grammar puts what it reads; neighbours of a kind are joined until they are taken.

White space between reasoning, content and calls belongs to the notation of a model and is left out. Content that no
call and no reasoning precedes keeps every character.
"""

import secrets
from collections.abc import Callable

from tritium.llm.reading.piece import Content, Piece, Reasoning, ToolArguments, ToolCall


def call_id() -> str:
    """Return a new id of a call, in OpenAI's form."""
    return f"call_{secrets.token_hex(12)}"


def add_joined(pieces: list[Piece], piece: Piece) -> None:
    """Add a piece to others: to the last one, where that is of its kind."""
    match pieces[-1] if pieces else None, piece:
        case Content(before), Content(after):
            pieces[-1] = Content(before + after)
        case Reasoning(before), Reasoning(after):
            pieces[-1] = Reasoning(before + after)
        case ToolArguments(index, before), ToolArguments(same, after) if index == same:
            pieces[-1] = ToolArguments(index, before + after)
        case _:
            pieces.append(piece)


class Pieces:
    """What was read and is not taken yet."""

    __slots__ = (
        "_begun",
        "_dropped",
        "_kind",
        "_new_id",
        "_only_first",
        "_pieces",
        "_reasoning",
        "_said",
        "_space",
        "calls",
        "in_call",
    )

    def __init__(self, *, parallel: bool = True, reasoning: bool = True, new_id: Callable[[], str] = call_id) -> None:
        """Begin; without `parallel` only the first call is kept, without `reasoning` no reasoning is."""
        self._pieces: list[Piece] = []
        self._kind: type[Piece] | None = None
        self._begun = False
        self._space = ""
        self._only_first = not parallel
        self._reasoning = reasoning
        self._new_id = new_id
        self._dropped = False
        self._said = False
        self.calls = 0
        """How many calls were opened."""
        self.in_call = False
        """Whether the arguments of a call are being read."""

    @property
    def leading(self) -> bool:
        """Tell whether white space that came now would be left out."""
        return self._kind is not Content or not self._begun

    @property
    def rests_in(self) -> type[Content] | type[Reasoning] | None:
        """Return as what text that has no white space at its end would be added, unchanged; None where it would not."""
        if not self._begun or self._space:
            return None
        if self._kind is Content:
            return Content
        return Reasoning if self._kind is Reasoning and self._reasoning else None

    def take(self) -> list[Piece]:
        """Return what was read since the last time."""
        taken, self._pieces = self._pieces, []
        return taken

    def content(self, text: str) -> None:
        """Add text for the user."""
        if self._kind is not Content:
            self._begun = self._kind is None
            self._kind, self._space = Content, ""
        if trimmed := self._trim(text):
            add_joined(self._pieces, Content(trimmed))

    def reasoning(self, text: str) -> None:
        """Add what the model thought."""
        if self._kind is not Reasoning:
            self._kind, self._space, self._begun = Reasoning, "", False
        if (trimmed := self._trim(text)) and self._reasoning:
            add_joined(self._pieces, Reasoning(trimmed))

    def turn(self) -> None:
        """Note that what comes next is of another kind than what came last."""
        self._begun = False

    def open(self, name: str, id: str = "") -> None:  # noqa: A002  what OpenAI calls it
        """Begin a call."""
        self._kind = ToolCall
        self.in_call, self._said = True, False
        self._dropped = self._only_first and self.calls > 0
        if not self._dropped:
            self._pieces.append(ToolCall(self.calls, id or self._new_id(), name))
        self.calls += 1

    def arguments(self, fragment: str) -> None:
        """Add to the arguments of the call that is open."""
        self._said = self._said or bool(fragment)
        if fragment and not self._dropped:
            add_joined(self._pieces, ToolArguments(self.calls - 1, fragment))

    def close(self) -> None:
        """End the call; one without arguments has an empty object of them."""
        if not self._said:
            self.arguments("{}")
        self.in_call = False

    def cut(self) -> None:
        """End the call where the text ended; what is there of its arguments stays as it is."""
        self.in_call = False

    def end(self) -> None:
        """Add the white space that stood at the very end of the content."""
        if self._kind is Content and self._space:
            add_joined(self._pieces, Content(self._space))
            self._space = ""

    def settle(self) -> None:
        """Hold white space back no longer: nothing but content is to come."""
        self.end()

    def _trim(self, text: str) -> str:
        """Return what is certain not to be white space at an edge."""
        body = text if self._begun else text.lstrip()
        trimmed = body.rstrip()
        if not trimmed:
            self._space += body
            return ""
        self._begun = True
        said, self._space = self._space + trimmed, body[len(trimmed) :]
        return said
