"""What a mocker says: words of the vocabulary in an order that looks random and is always the same, or the prompt.

A token follows from the one before it, its place and the seed alone, so that a generation moved to another worker goes
on as it would have.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

FIRST_PLAIN_TOKEN = 16
"""Below are the special tokens of most vocabularies."""

_WORD_MARKS = ("Ġ", "▁")
"""What a token begins with when a space stands before it, in byte-level and in sentencepiece vocabularies."""

_MANY_WORDS = 200
"""With fewer words than this, plain tokens of any kind make the better text."""


class Vocabulary(msgspec.Struct, frozen=True):
    """The tokens that answers are made of, the size of the vocabulary, and its end of sequence (None: it has none)."""

    tokens: Sequence[int]
    size: int
    end: int | None = None


class _TokenizerModel(msgspec.Struct):
    vocab: dict[str, int] | list[tuple[str, float]] = {}


class _TokenizerFile(msgspec.Struct):
    model: _TokenizerModel


class _ModelConfig(msgspec.Struct):
    vocab_size: int | None = None
    eos_token_id: int | list[int] | None = None


def read_vocabulary(folder: Path, *, words: bool, size: int | None = None) -> Vocabulary:
    """Read a model folder's vocabulary, as far as it has the files; `words` leaves only whole lower-case words.

    Raises:
        msgspec.DecodeError: a file is not as it should be.
    """
    config = _ModelConfig()
    if (folder / "config.json").is_file():
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=_ModelConfig)
    chosen: list[int] = []
    if words and size is None and (folder / "tokenizer.json").is_file():
        vocabulary = msgspec.json.decode((folder / "tokenizer.json").read_bytes(), type=_TokenizerFile).model.vocab
        pairs = vocabulary.items() if isinstance(vocabulary, dict) else ((t, i) for i, (t, _) in enumerate(vocabulary))
        chosen = sorted(number for text, number in pairs if _is_word(text))
    size = size or config.vocab_size or 32_000
    end = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
    if len(chosen) < _MANY_WORDS:
        return Vocabulary(range(min(FIRST_PLAIN_TOKEN, size - 1), size), size, end)
    return Vocabulary(chosen, size, end)


def _is_word(text: str) -> bool:
    return text[:1] in _WORD_MARKS and text[1:].isascii() and text[1:].isalpha() and text[1:].islower()


NextToken = Callable[[Sequence[int], int], int | None]
"""Gives the token that follows `tokens`, of which the first so many are the prompt; None: the answer is at its end."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What is said: `ending` answers end of themselves, `endless` ones when they are told to."""

    ending: NextToken
    endless: NextToken


AnswersOf = Callable[[int | None], Answers]
"""Gives the answers of a request's seed."""


def words(vocabulary: Vocabulary, seed: int, mean_tokens: int | None) -> AnswersOf:
    """Say words; where `mean_tokens` is given, an answer ends of itself after so many on the average."""
    tokens = tuple(random.Random(seed).sample(vocabulary.tokens, len(vocabulary.tokens)))  # noqa: S311  no secret
    count = len(tokens)

    def answers_of(request_seed: int | None) -> Answers:
        offset = (request_seed or 0) * 7_919 % count

        # Small factors: this runs once a token, and numbers of one machine word are much the faster.
        def endless(before: Sequence[int], _prompt_tokens: int) -> int:
            return tokens[(before[-1] * 31 + len(before) * 1_327 + offset) % count]

        if mean_tokens is None:
            return Answers(endless, endless)

        def ending(before: Sequence[int], _prompt_tokens: int) -> int | None:
            place = (before[-1] * 31 + len(before) * 1_327 + offset) % count
            return tokens[place] if place % mean_tokens else None

        return Answers(ending, endless)

    return answers_of


def echo(_request_seed: int | None) -> Answers:
    """Say the prompt again: once, or over and over."""

    def once(tokens: Sequence[int], prompt_tokens: int) -> int | None:
        said = len(tokens) - prompt_tokens
        return tokens[said] if said < prompt_tokens else None

    def forever(tokens: Sequence[int], prompt_tokens: int) -> int:
        return tokens[len(tokens) % prompt_tokens]

    return Answers(once, forever)
