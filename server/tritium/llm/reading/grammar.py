"""Readers made of grammars, and the two that every family is built of: thinking first, then content with calls in it.

thinking --end marker, or a call--> content --opener--> call --> content ...
                                       ^------ malformed ------'
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tritium.llm.reading.piece import Content, Piece, Reasoning
from tritium.llm.reading.pieces import Pieces
from tritium.llm.reading.reading import Tool
from tritium.llm.reading.text import MalformedError, Text, Wait, markers


@dataclass(frozen=True, slots=True)
class Scene:
    """What a grammar works on: the text, the pieces, and the tools that the client offers by name."""

    text: Text
    out: Pieces
    tools: Mapping[str, Tool] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    """Special tokens that are in the text for the grammar's sake; the client never sees them."""


Grammar = Callable[[Scene], Wait[None]]


class GrammarReader:
    """Reads one completion by a grammar."""

    __slots__ = ("_out", "_scene", "_steps", "_text", "_will_settle")

    def __init__(self, scene: Scene, grammar: Grammar, *, will_settle: bool = False) -> None:
        """Begin; `will_settle` says that nothing but content comes once content has begun."""
        self._scene = scene
        self._text = scene.text
        self._out = scene.out
        self._steps = grammar(scene)
        self._will_settle = will_settle
        next(self._steps, None)

    @property
    def settled(self) -> bool:
        """Tell whether all that is still to come is content, unchanged."""
        # Tokens that are hidden from the client still have to be taken out.
        return self._will_settle and not self._scene.hidden and not self._out.leading and not self._text.waiting

    @property
    def rests_in(self) -> type[Content] | type[Reasoning] | None:
        """Return as what text with nothing notable in it would come out, unchanged; None: not at rest."""
        return self._out.rests_in if self._text.idle else None

    def push(self, text: str) -> list[Piece]:
        """Take more text and return what it makes certain."""
        self._text.add(text)
        next(self._steps, None)
        if self._will_settle and not self._out.leading:
            self._out.settle()
        return self._out.take()

    def end(self) -> list[Piece]:
        """Return what was held back."""
        self._text.ended = True
        next(self._steps, None)
        self._out.end()
        return self._out.take()


@dataclass(frozen=True, slots=True)
class Calls:
    """How a family writes calls.

    `read` begins behind an opener. Where `bare` is set, a text may begin with a call and no opener; `bare` are the
    characters by which it does.
    """

    openers: tuple[str, ...]
    read: Callable[[Scene, str], Wait[None]]
    bare: str = ""
    others: tuple[str, ...] = ()
    """What else may be a special token: closers, separators."""
    new_id: Callable[[], str] | None = None

    @property
    def markers(self) -> tuple[str, ...]:
        """Return all that may be special tokens."""
        return self.openers + self.others


def content(scene: Scene) -> Wait[None]:
    """Read everything as content."""
    watched = markers(*scene.hidden)
    while (yield from scene.text.passing(watched, scene.out.content)):
        pass


def content_with_calls(scene: Scene, calls: Calls) -> Wait[None]:
    """Read content, and the calls in it."""
    text, out = scene.text, scene.out
    if calls.bare:
        yield from _attempt_bare(scene, calls)
    watched = markers(*dict.fromkeys(calls.openers + scene.hidden))
    while marker := (yield from text.passing(watched, out.content)):
        if marker in calls.openers:
            text.back(len(marker))
            text.mark()
            text.skip(len(marker))
            yield from _attempt(scene, calls.read(scene, marker))


def _attempt_bare(scene: Scene, calls: Calls) -> Wait[None]:
    scene.text.mark()
    if (yield from scene.text.space()) and (yield from scene.text.peek()) in calls.bare:
        yield from _attempt(scene, calls.read(scene, ""))
    else:
        scene.out.content(scene.text.release())


def _attempt(scene: Scene, steps: Wait[None]) -> Wait[None]:
    """Read calls; what turns out to be none is content."""
    try:
        yield from steps
    except MalformedError:
        if not scene.out.in_call:
            scene.out.content(visible(scene.text.release(), scene.hidden))
            return
        scene.out.cut()
    scene.text.release()


def visible(text: str, hidden: tuple[str, ...]) -> str:
    """Return the text without special tokens."""
    for token in hidden:
        text = text.replace(token, "")
    return text


def thinking(scene: Scene, ends: tuple[str, ...], then: Grammar, *, also: tuple[str, ...] = ()) -> Wait[None]:
    """Read what the model thinks up to one of `ends`, or to one of `also`, which is left for `then` to read."""
    watched = markers(*dict.fromkeys((*ends, *also, *scene.hidden)))
    while marker := (yield from scene.text.passing(watched, scene.out.reasoning)):
        if marker in also:
            scene.text.back(len(marker))
        if marker in also or marker in ends:
            scene.out.turn()
            break
    yield from then(scene)
