"""Where a text may be cut so that the ids of its pieces, joined, are the ids of the whole.

    ...the blocks| that it holds|        before a space or line end that follows an ASCII letter or digit
    今日は天気| 。                        before a full stop, comma or line end that follows a Chinese character

Safe where nothing of the tokenizer reaches over such a place. That is shown for each tokenizer when it is loaded:

- no added token holds the two characters side by side, and none swallows spaces after the first;
- its normalizer looks at single characters, or composes them by Unicode's rules, by which the second joins nothing;
- no pattern of its pre-tokenizer can match the two side by side, or look from the one at the other (`llm.pattern`);
- and either a pre-tokenizer always separates them, or the model is a BPE that merges pairs of its vocabulary only, and
  no token of it holds the two.

A tokenizer of which one of these cannot be shown is not cut there.
"""

import itertools
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import tokenizers

from tritium.llm.pattern import read_pattern

_SPACE = " "
_SPACE_MARK = "\u2581"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel splits by (tokenizers: pre_tokenizers/byte_level.rs)."""

_LOCAL = frozenset({"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer"})
"""Normalizers under which a text cut before a space is normalized as its two pieces are."""
_WORDS = frozenset({"Whitespace", "WhitespaceSplit", "BertPreTokenizer"})
"""Pre-tokenizers that drop spaces and cut at each."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Places to cut at: between a character of these ranges and one of `marks`.

    `samples` stand for all characters of the ranges: those within one have the same category and script.
    """

    ranges: str
    samples: str
    marks: str

    def has(self, character: str) -> bool:
        return re.match(f"[{self.ranges}]", character) is not None

    def samples_of(self, pattern: str) -> str:
        """Return the samples, and what lies around characters that the pattern itself names."""
        named = {chr(ord(c) + n) for c in pattern if c > "\x7f" for n in (-1, 0, 1)}
        return self.samples + "".join(c for c in sorted(named) if self.has(c) and c not in self.samples)


_LATIN = _Place("A-Za-z0-9", string.ascii_letters + string.digits, " \n")
_HAN = _Place("\u4e00-\u9fa5", "\u4e00\u4e01\u9fa4\u9fa5", "\u3002\uff0c\u3001\uff01\uff1f\uff1b\uff1a\n")


@dataclass(frozen=True, slots=True)
class Boundaries:
    """How to find the places to cut at: `place` matches the character before one.

    `dropped` is 1 where the space itself is left out of what follows, for the tokenizer puts one before every text.
    """

    place: re.Pattern[str]
    dropped: int = 0


def steps(part: Any) -> list[dict[str, Any]]:
    """Return what a normalizer or pre-tokenizer does, step by step; nothing where there is none."""
    return [] if part is None else _flat(msgspec.json.decode(part.__getstate__()))


def safe_boundaries(backend: tokenizers.Tokenizer) -> Boundaries | None:
    """Return where texts may be cut, or None where no place is shown to be safe."""
    tokenizer = _Tokenizer(backend)
    if not tokenizer.readable:
        return None
    if tokenizer.prepends:
        # What follows is encoded without its space and gets it back as the one that begins every text.
        safe = tokenizer.separates(_LATIN, _SPACE)
        return Boundaries(re.compile(r"[A-Za-z0-9](?= [A-Za-z0-9])"), dropped=1) if safe else None
    found: list[str] = []
    for place in (_LATIN, _HAN):
        marks = "".join(mark for mark in place.marks if tokenizer.separates(place, mark))
        if marks:
            found.append(f"[{place.ranges}](?=[{marks}])")
    return Boundaries(re.compile("|".join(found))) if found else None


class _Tokenizer:
    """A tokenizer's parts, asked about one place to cut at."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self._normalizers = steps(backend.normalizer)
        self._pre_tokenizers = steps(backend.pre_tokenizer)
        self._model = backend.model
        self.prepends = any(step["type"] == "Prepend" for step in self._normalizers)

    @property
    def readable(self) -> bool:
        """Tell whether all of its parts are known here, whatever the place."""
        kinds = [step["type"] for step in self._normalizers]
        if self.prepends and (kinds != ["Prepend", "Replace"] or self._pre_tokenizers):
            return False
        marked = self._marks_spaces
        for step in self._normalizers:
            if step["type"] == "Replace" and not _replaces_spaces(step):
                return False
            if step["type"] == "Prepend" and step["prepend"] != _SPACE_MARK:
                return False
            if step["type"] not in _LOCAL | {"Replace", "Prepend"}:
                return False
        return all(_known(step, marked) for step in self._pre_tokenizers)

    def separates(self, place: _Place, mark: str) -> bool:
        """Tell whether nothing reaches from a character of the place over to `mark` after it."""
        if any(_reaches(text, token, place, mark) for text, token in self._added()):
            return False
        shown = self._normalized(mark)
        always = False
        for step in self._pre_tokenizers:
            # These put a space before what begins without one, as what follows a line end does.
            prefixes = step.get("add_prefix_space") or step.get("prepend_scheme", "never") != "never"
            if prefixes and mark != _SPACE:
                return False
            verdict = _split_between(step, place, shown)
            if verdict is None:
                return False
            always = always or verdict
        return self._model_separates(place, shown, always=always)

    def _normalized(self, mark: str) -> str:
        """Return the mark as pre-tokenizers see it: full-width ones may have become ASCII by then."""
        normalizer = self._backend.normalizer
        return mark if normalizer is None or self.prepends else str(normalizer.normalize_str(mark))

    def _added(self) -> Iterator[tuple[str, Any]]:
        """Return every added token, as it is written and as it is looked for in normalized text."""
        for token in self._backend.get_added_tokens_decoder().values():
            yield token.content, token
            if token.normalized and self._backend.normalizer is not None:
                yield self._backend.normalizer.normalize_str(token.content).replace(_SPACE_MARK, " "), token

    @property
    def _marks_spaces(self) -> bool:
        return any(step["type"] == "Replace" for step in self._normalizers)

    @property
    def _byte_level(self) -> bool:
        return any(step["type"] == "ByteLevel" for step in self._pre_tokenizers)

    def _written(self, mark: str) -> str:
        """Return the mark as the vocabulary writes it."""
        if self._byte_level:
            return chr(0x100 + ord(mark))
        metaspace = any(step["type"] == "Metaspace" for step in self._pre_tokenizers)
        return _SPACE_MARK if mark == _SPACE and (metaspace or self._marks_spaces) else mark

    def _model_separates(self, place: _Place, mark: str, *, always: bool) -> bool:
        model = self._model
        if not isinstance(model, tokenizers.models.BPE):
            return always
        if model.dropout:
            return False
        if always:
            return True
        # These treat a word, here with both in it, otherwise than its merges say.
        if model.ignore_merges or model.end_of_word_suffix or model.continuing_subword_prefix:
            return False
        # Characters beyond ASCII are several tokens of bytes, any of which may be merged with a neighbour's.
        if self._byte_level and not (mark.isascii() and place is _LATIN):
            return False
        written = self._written(mark)
        vocabulary = self._backend.get_vocab(with_added_tokens=False)
        if model.fuse_unk and not model.byte_fallback and written not in vocabulary:
            return False
        pair = re.compile(f"[{place.ranges}]{re.escape(written)}")
        return not any(pair.search(token) for token in vocabulary)


def _known(step: dict[str, Any], marked: bool) -> bool:  # noqa: FBT001  one step, and whether spaces are gone by then
    """Tell whether a pre-tokenizer does nothing but cut, or put a space before a text that has none."""
    kind = step["type"]
    if kind == "Split":
        if step["behavior"] == "Isolated" or (step["behavior"] == "Removed" and step["invert"]):
            return True
        return marked and step["pattern"] == {"String": _SPACE}
    if kind == "Metaspace":
        return bool(step["replacement"] == _SPACE_MARK)
    if kind == "Punctuation":
        return step["behavior"] in {"Isolated", "Contiguous", "Removed"}
    return kind in _WORDS | {"ByteLevel", "Digits"}


def _split_between(step: dict[str, Any], place: _Place, mark: str) -> bool | None:
    """Tell whether a pre-tokenizer always cuts between the place's characters and `mark`; None: it may match across."""
    kind = step["type"]
    if kind in _WORDS:
        return mark.isspace()
    if kind == "Metaspace":
        return bool(step["split"]) and mark in {_SPACE, _SPACE_MARK}
    if kind in {"Digits", "Punctuation"}:
        return False
    if kind == "ByteLevel":
        return _matches_apart(_GPT2, place, mark) if step["use_regex"] else False
    literal = step["pattern"].get("String")
    return _matches_apart(re.escape(literal) if literal is not None else step["pattern"]["Regex"], place, mark)


def _matches_apart(pattern: str, place: _Place, mark: str) -> bool | None:
    before = place.samples_of(pattern)
    if len(mark) != 1:
        return None
    matches = read_pattern(pattern, before + mark)
    if matches is None or matches.peeked & set(before) or any(after == mark != one for one, after in matches.pairs):
        return None
    return matches.single >= set(before)


def _reaches(text: str, token: Any, place: _Place, mark: str) -> bool:
    """Tell whether an added token may take characters on both sides of a place to cut at, or look across it."""
    if any(after == mark and place.has(before) for before, after in itertools.pairwise(text)):
        return True
    return bool((token.rstrip and mark.isspace() and place.has(text[-1:])) or (token.single_word and text[:1] == mark))


def _replaces_spaces(step: dict[str, Any]) -> bool:
    return bool(step["pattern"] == {"String": _SPACE} and step["content"] == _SPACE_MARK)


def _flat(step: dict[str, Any]) -> list[dict[str, Any]]:
    if step["type"] != "Sequence":
        return [step]
    return [inner for each in step.get("pretokenizers") or step.get("normalizers") or () for inner in _flat(each)]
