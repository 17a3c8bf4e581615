"""Tokenize once: the ids of a prompt's pieces are kept, so that prompts which begin alike pay for their ends only.

    <|system|>You are ... for all users.<|end|><|user|>a long document, the same for many| and a question<|end|>
               '-------- kept --------'                '----------- kept ----------'  '--- new ---'

A text is cut at its special tokens, which are taken out before anything else looks at it, and within its long parts
at places that are safe for the tokenizer (`llm.boundaries`). Where the cuts are depends only on what stands before
them: texts that begin alike are cut alike as far as they are.
"""

import re
import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import tokenizers

from tritium.llm.boundaries import Boundaries, safe_boundaries, steps

MAX_BYTES = 64 << 20
"""How much memory the pieces of one tokenizer may take, with their ids."""
_ENTRY_BYTES = 200
"""What a piece takes beside its text and its ids."""
_PIECE_CHARACTERS = 256
_GROWTH = 32
"""A piece is at least this part of what stands before it, so that the longest texts have few pieces."""


@dataclass(slots=True)
class Reuse:
    """How many tokens of prompts came out of memory, and how many were computed."""

    reused_tokens: int = 0
    computed_tokens: int = 0


class Segments:
    """A text cut to pieces; `missing` are those whose ids are not known."""

    __slots__ = ("_ids", "_keep", "_pieces", "missing")

    def __init__(
        self, pieces: list[str], known: dict[str, Sequence[int]], keep: Callable[[str, Sequence[int]], None]
    ) -> None:
        self._pieces = pieces
        self._ids = known
        self._keep = keep
        self.missing = [piece for piece in dict.fromkeys(pieces) if piece not in known]

    def join(self, encoded: Sequence[Sequence[int]]) -> list[int]:
        """Return the ids of the whole text; `encoded` are those of the missing pieces, which are kept."""
        for piece, its in zip(self.missing, encoded, strict=True):
            self._ids[piece] = its
            self._keep(piece, its)
        ids: list[int] = []
        for piece in self._pieces:
            ids.extend(self._ids[piece])
        return ids


class Segmenter:
    """Cuts texts and remembers the ids of their pieces, the most recently used up to a bound.

    `anchor` is a special token to be written before a part that does not begin its text, where the tokenizer treats
    the beginning in a way of its own; the id of the anchor is not the part's.
    """

    def __init__(
        self,
        special: dict[str, int],
        boundaries: Boundaries | None = None,
        *,
        anchor: str = "",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.special = special
        self.boundaries = boundaries
        self.reuse = Reuse()
        self._anchor = anchor
        self._single = {text: (i,) for text, i in special.items()}
        self._known: OrderedDict[str, Sequence[int]] = OrderedDict()
        self._max_bytes = max_bytes
        self._bytes = 0
        self._special = re.compile(f"({_any_of(special)})") if special else None

    @property
    def bytes(self) -> int:
        """Return how much memory the remembered pieces take."""
        return self._bytes

    def cut(self, text: str) -> Segments:
        """Cut a text and look its pieces up."""
        pieces = list(self._cut(text))
        known: dict[str, Sequence[int]] = {}
        for piece in pieces:
            if piece in self._single:
                known[piece] = self._single[piece]
            elif piece in self._known and piece not in known:
                self._known.move_to_end(piece)
                known[piece] = self._known[piece]
                self.reuse.reused_tokens += len(known[piece])
        return Segments(pieces, known, self._keep)

    def skip(self, piece: str) -> int:
        """Return how many ids at the beginning of an encoded piece are not its own."""
        return 1 if self._anchor and piece.startswith(self._anchor) else 0

    def _cut(self, text: str) -> Iterator[str]:
        parts = self._special.split(text) if self._special is not None else [text]
        for i, part in enumerate(parts):
            if i % 2:
                yield part
            elif part:
                begun = self._anchor if i else ""
                if self.boundaries is None or len(part) <= 2 * _PIECE_CHARACTERS:
                    yield begun + part
                else:
                    yield from self._pieces(part, begun, self.boundaries)

    def _pieces(self, part: str, begun: str, boundaries: Boundaries) -> Iterator[str]:
        find, dropped = boundaries.place.search, boundaries.dropped
        start = 0
        while True:
            place = find(part, start + max(_PIECE_CHARACTERS, start // _GROWTH))
            if place is None:
                yield begun + part[start:]
                return
            yield begun + part[start : place.end()]
            start, begun = place.end() + dropped, ""

    def _keep(self, piece: str, ids: Sequence[int]) -> None:
        """Keep the ids of a piece, and forget the least recently used ones beyond the bound."""
        self.reuse.computed_tokens += len(ids)
        size = _size(piece, len(ids))
        if piece in self._known or size > self._max_bytes:
            return
        self._known[piece] = array("I", ids)
        self._bytes += size
        while self._bytes > self._max_bytes:
            forgotten, its = self._known.popitem(last=False)
            self._bytes -= _size(forgotten, len(its))


def segmenter(backend: tokenizers.Tokenizer) -> Segmenter | None:
    """Return a segmenter, or None where no cut is shown to be safe."""
    added = backend.get_added_tokens_decoder()
    plain = {
        token.content: i
        for i, token in added.items()
        if token.special and not (token.lstrip or token.rstrip or token.single_word or token.normalized)
    }
    reached = _reached(plain, [token.content for token in added.values()])
    special = {text: i for text, i in plain.items() if text not in reached}
    boundaries = safe_boundaries(backend)
    if any(step.get("prepend_scheme") == "first" for step in steps(backend.pre_tokenizer)):
        anchor = next(iter(special), "")
    else:
        anchor = ""
    return Segmenter(special, boundaries, anchor=anchor) if special or boundaries is not None else None


def _any_of(texts: Iterable[str]) -> str:
    """Return a pattern of texts, the longest of which match, that takes common beginnings once: there may be many."""
    by_first: dict[str, list[str]] = {}
    for text in texts:
        by_first.setdefault(text[:1], []).append(text[1:])
    ends = by_first.pop("", None) is not None
    branches = [re.escape(first) + _any_of(rest) for first, rest in by_first.items()]
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)})" + ("?" if ends else "")


def _reached(texts: Iterable[str], all_texts: Sequence[str]) -> set[str]:
    """Return the texts that another one contains, or ends in the beginning of: found first, it would win."""
    ends = {other[-n:] for other in all_texts for n in range(1, len(other))}
    together = "\0".join(all_texts)
    return {text for text in texts if together.count(text) > 1 or any(text[:n] in ends for n in range(1, len(text)))}


def _size(piece: str, ids: int) -> int:
    return sys.getsizeof(piece) + array("I").itemsize * ids + _ENTRY_BYTES
