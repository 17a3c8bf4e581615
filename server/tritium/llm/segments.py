"""Tokenize once: the ids of a prompt's parts are kept, so that a conversation pays for its newest message only.

    <|user|>first question<|end|><|assistant|>first answer<|end|><|user|>second question<|end|>
            '---- kept ---'                   '--- kept --'              '---- new -----'

Special tokens cut a text before anything else looks at it, so the ids of the parts, joined, are the ids of the whole.
That holds for tokenizers that treat every part alike; `segmenter` returns None for any other.
"""

import re
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import tokenizers

_MAX_CHARACTERS = 16 << 20
"""How much text is remembered by its ids (which take about a byte a character)."""

# Pre-tokenizers and normalizers that do not look at where in the text a part stands.
_ALIKE = frozenset({"ByteLevel", "Split", "Digits", "Punctuation", "NFC", "NFKC", "NFD", "NFKD"})


class Segments:
    """A text cut at its special tokens; `missing` are the parts whose ids are not known."""

    __slots__ = ("_ids", "_parts", "_remember", "missing")

    def __init__(
        self, parts: list[str], known: dict[str, Sequence[int]], remember: Callable[[str, Sequence[int]], None]
    ) -> None:
        self._parts = parts
        self._ids = known
        self._remember = remember
        self.missing = [part for part in dict.fromkeys(parts) if part not in known]

    def join(self, encoded: Sequence[Sequence[int]]) -> list[int]:
        """Return the ids of the whole text; `encoded` are those of the missing parts, which are kept."""
        for part, its in zip(self.missing, encoded, strict=True):
            self._ids[part] = its
            self._remember(part, its)
        ids: list[int] = []
        for part in self._parts:
            ids.extend(self._ids[part])
        return ids


class Segmenter:
    """Cuts texts and remembers the ids of their parts, the most recently used up to a bound."""

    def __init__(self, special: dict[str, int], max_characters: int = _MAX_CHARACTERS) -> None:
        self.special = special
        self._single = {text: (i,) for text, i in special.items()}
        self._known: OrderedDict[str, Sequence[int]] = OrderedDict()
        self._max_characters = max_characters
        self._characters = 0
        longest_first = sorted(special, key=len, reverse=True)
        self._cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    @property
    def characters(self) -> int:
        """Return how much text is remembered."""
        return self._characters

    def cut(self, text: str) -> Segments:
        """Cut a text at its special tokens."""
        parts = [part for part in self._cut.split(text) if part]
        ids: dict[str, Sequence[int]] = {}
        for part in parts:
            if part in self._single:
                ids[part] = self._single[part]
            elif part in self._known:
                self._known.move_to_end(part)
                ids[part] = self._known[part]
        return Segments(parts, ids, self._remember)

    def _remember(self, part: str, ids: Sequence[int]) -> None:
        """Keep the ids of a part, and forget the least recently used ones beyond the bound."""
        if part in self._known or len(part) > self._max_characters:
            return
        self._known[part] = array("I", ids)
        self._characters += len(part)
        while self._characters > self._max_characters:
            forgotten, _ = self._known.popitem(last=False)
            self._characters -= len(forgotten)


def segmenter(tokenizer: tokenizers.Tokenizer) -> Segmenter | None:
    """Return a segmenter, or None where parts do not add up to the whole."""
    if not (_treats_parts_alike(tokenizer.pre_tokenizer) and _treats_parts_alike(tokenizer.normalizer)):
        return None
    added = tokenizer.get_added_tokens_decoder()
    plain = {
        token.content: i
        for i, token in added.items()
        if token.special and not (token.lstrip or token.rstrip or token.single_word or token.normalized)
    }
    # A longer token that contains a special one would win over it.
    texts = [token.content for token in added.values()]
    plain = {text: i for text, i in plain.items() if not any(text in other and text != other for other in texts)}
    return Segmenter(plain) if plain else None


def steps(part: Any) -> list[dict[str, Any]]:
    """Return what a normalizer or pre-tokenizer does, step by step; nothing where there is none."""
    return [] if part is None else _flat(msgspec.json.decode(part.__getstate__()))


def _treats_parts_alike(part: Any) -> bool:
    return all(step["type"] in _ALIKE and not step.get("add_prefix_space") for step in steps(part))


def _flat(step: dict[str, Any]) -> list[dict[str, Any]]:
    if step["type"] != "Sequence":
        return [step]
    return [inner for each in step.get("pretokenizers") or step.get("normalizers") or () for inner in _flat(each)]
