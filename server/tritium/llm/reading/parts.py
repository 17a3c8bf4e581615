"""Pieces put together again, for an answer that is sent whole."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tritium.llm.reading.piece import Content, Piece, Reasoning, ToolArguments, ToolCall


@dataclass(slots=True)
class WholeCall:
    """A tool call; `arguments` is the JSON text of an object."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class ReadParts:
    """All that was read of one completion."""

    content: str = ""
    reasoning: str = ""
    calls: list[WholeCall] = field(default_factory=list)

    def add(self, pieces: Iterable[Piece]) -> None:
        """Add pieces in their order."""
        for piece in pieces:
            match piece:
                case Content(text):
                    self.content += text
                case Reasoning(text):
                    self.reasoning += text
                case ToolCall(_, id, name):
                    self.calls.append(WholeCall(id, name))
                case ToolArguments(index, fragment):
                    self.calls[index].arguments += fragment
