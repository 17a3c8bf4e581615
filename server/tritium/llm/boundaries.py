"""Where a text may be cut so that the ids of its pieces, joined, are the ids of the whole.

    ...the blocks| that it holds|        cut before a space or line end that follows an ASCII letter or digit

Safe where nothing of the tokenizer reaches over such a place. That is shown for each tokenizer when it is loaded:

- no added token holds a letter or digit followed by that space, and none swallows spaces after it;
- its normalizer looks at single characters, or composes them by Unicode's rules, by which a space joins nothing;
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

_BEFORE = string.ascii_letters + string.digits
_SPACE, _LINE_END = " ", "\n"
_SPACE_MARK = "\u2581"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel splits by (tokenizers: pre_tokenizers/byte_level.rs)."""

_LOCAL = frozenset({"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer"})
"""Normalizers under which a text cut before a space is normalized as its two pieces are."""
_WORDS = frozenset({"Whitespace", "WhitespaceSplit", "BertPreTokenizer"})
"""Pre-tokenizers that drop spaces and cut at each."""


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
    safe = [mark for mark in (_SPACE, _LINE_END) if tokenizer.separates(mark)]
    if not safe:
        return None
    if tokenizer.prepends:
        # What follows is encoded without its space and gets it back as the one that begins every text.
        return Boundaries(re.compile(r"[A-Za-z0-9](?= [A-Za-z0-9])"), dropped=1) if _SPACE in safe else None
    return Boundaries(re.compile(rf"[A-Za-z0-9](?=[{''.join(safe)}])"))


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

    def separates(self, mark: str) -> bool:
        """Tell whether nothing reaches from a letter or digit over to `mark` after it."""
        if any(_reaches(text, token, mark) for text, token in self._added()):
            return False
        always = False
        for step in self._pre_tokenizers:
            # These put a space before what begins without one, as what follows a line end does.
            prefixes = step.get("add_prefix_space") or step.get("prepend_scheme", "never") != "never"
            if prefixes and mark != _SPACE:
                return False
            verdict = _split_between(step, self._written(mark) if self._marks_spaces else mark)
            if verdict is None:
                return False
            always = always or verdict
        return self._model_separates(mark, always=always)

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

    def _model_separates(self, mark: str, *, always: bool) -> bool:
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
        written = self._written(mark)
        vocabulary = self._backend.get_vocab(with_added_tokens=False)
        if model.fuse_unk and not model.byte_fallback and written not in vocabulary:
            return False
        pair = re.compile(f"[A-Za-z0-9]{re.escape(written)}")
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
    return kind in _WORDS | {"ByteLevel", "Digits", "Punctuation"}


def _split_between(step: dict[str, Any], mark: str) -> bool | None:
    """Tell whether a pre-tokenizer always cuts between a letter or digit and `mark`; None: it may match across."""
    kind = step["type"]
    if kind in _WORDS:
        return True
    if kind == "Metaspace":
        return bool(step["split"]) and mark in {_SPACE, _SPACE_MARK}
    if kind in {"Digits", "Punctuation"}:
        return False
    if kind == "ByteLevel":
        return _matches_apart(_GPT2, mark) if step["use_regex"] else False
    literal = step["pattern"].get("String")
    return _matches_apart(re.escape(literal) if literal is not None else step["pattern"]["Regex"], mark)


def _matches_apart(pattern: str, mark: str) -> bool | None:
    matches = read_pattern(pattern, _BEFORE + mark)
    if (
        matches is None
        or matches.peeked & set(_BEFORE)
        or any(after == mark != before for before, after in matches.pairs)
    ):
        return None
    return matches.single >= set(_BEFORE)


def _reaches(text: str, token: Any, mark: str) -> bool:
    """Tell whether an added token may take characters on both sides of a place to cut at, or look across it."""
    if any(before in _BEFORE and after == mark for before, after in itertools.pairwise(text)):
        return True
    return bool((token.rstrip and text[-1:] in _BEFORE) or (token.single_word and text[:1] == mark))


def _replaces_spaces(step: dict[str, Any]) -> bool:
    return bool(step["pattern"] == {"String": _SPACE} and step["content"] == _SPACE_MARK)


def _flat(step: dict[str, Any]) -> list[dict[str, Any]]:
    if step["type"] != "Sequence":
        return [step]
    return [inner for each in step.get("pretokenizers") or step.get("normalizers") or () for inner in _flat(each)]
