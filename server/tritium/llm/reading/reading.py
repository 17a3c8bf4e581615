"""How the completions of one request are read: chosen once from the model's formats and what the client asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tritium.llm.reading.piece import OutputReader


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False
    """Whether arguments have to satisfy the schema, however the model comes to call it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request decides how its answers are read."""

    tools: tuple[Tool, ...] = ()
    """The tools that may be called; none where tool_choice is "none"."""
    forced: str = ""
    """The one tool that must be called, "*" for any of them, or "" for the model's choice."""
    parallel: bool = True
    """Whether more than the first call is wanted."""
    reasoning: bool = True
    """Whether the client wants to see what the model thought."""
    constrained: bool = False
    """Whether the engine holds the answer to a schema, a grammar or their like."""
    continues: bool = False
    """Whether the prompt ends within the model's own text."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Makes a reader for each completion of a request.

    `shown` are the special tokens that the reader goes by: they are in its text although the client sees none.
    `notable` are the characters by which begins whatever a reader at rest looks out for; with white space at the end
    of a text, which may stand before it.
    """

    begin: Callable[[], OutputReader]
    shown: frozenset[int] = frozenset()
    notable: frozenset[str] = frozenset()
