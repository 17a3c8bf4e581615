"""Holds a sequence to JSON, a schema, an expression or a grammar, by llguidance: a mask of tokens before each draw.

structured_outputs -> Guidance -> Grammars.open (in a thread) -> Grammar: allow -> draw -> take -> ... -> end token
"""

import importlib.util
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tritium.backends.embedded.weights import Floats
from tritium.backends.guidance import Guidance
from tritium.core.errors import SamplingRefused

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

FIELD = "structured_outputs"
_TOKENIZER = "tokenizer.json"


class Grammar:
    """What one sequence is held to, and how far it has come."""

    def __init__(self, matcher: "LLMatcher", vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary

    def allow(self, logits: Floats) -> None:
        """Rule out what must not come next, in place; where nothing may follow, all but the end tokens."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed: npt.NDArray[np.uint8] = np.unpackbits(bits, count=self._vocabulary, bitorder="little")
        logits[allowed == 0] = -np.inf

    def take(self, token: int) -> None:
        """Note what came."""
        self._matcher.consume_token(token)


class Grammars:
    """Makes the grammars of one model; its vocabulary is read when the first one is asked for."""

    def __init__(self, folder: Path, vocabulary: int, end_tokens: frozenset[int]) -> None:
        self._file = folder / _TOKENIZER
        self._vocabulary = vocabulary
        self._end_tokens = end_tokens
        self._tokenizer: LLTokenizer | None = None
        self._reading = threading.Lock()

    @property
    def available(self) -> bool:
        """Tell whether sequences of this model can be held to a grammar."""
        return bool(self._end_tokens) and self._file.is_file() and importlib.util.find_spec("llguidance") is not None

    def open(self, guidance: Guidance) -> Grammar:
        """Compile a grammar; takes up to seconds, and may be called from any thread.

        Raises:
            SamplingRefused: it cannot be compiled, or is of a kind that is not held to here.
        """
        from llguidance import LLMatcher  # noqa: PLC0415  8 MB that most processes do without

        try:
            source = _source(guidance)
        except ValueError as error:
            raise SamplingRefused(FIELD, f"{guidance.kind}: {error}") from None
        matcher = LLMatcher(self._vocabulary_of_bytes(), source, log_level=0)
        if matcher.is_error():
            raise SamplingRefused(FIELD, f"{guidance.kind}: {_first_words(matcher.get_error())}")
        return Grammar(matcher, self._vocabulary)

    def _vocabulary_of_bytes(self) -> "LLTokenizer":
        from llguidance import LLTokenizer  # noqa: PLC0415  likewise

        with self._reading:
            if self._tokenizer is None:
                tokenizer = json.loads(self._file.read_text())
                tokenizer["padding"] = tokenizer["truncation"] = None
                ends = sorted(self._end_tokens)
                self._tokenizer = LLTokenizer(json.dumps(tokenizer), n_vocab=self._vocabulary, eos_token=ends)
            return self._tokenizer


def _source(guidance: Guidance) -> str:
    """Return a constraint as llguidance reads it."""
    from llguidance import LLMatcher, grammar_from  # noqa: PLC0415  likewise

    match guidance.kind:
        case "json" | "json_object":
            schema: Any = json.loads(guidance.value) if guidance.kind == "json" else {"type": "object"}
            # Small models, left the choice, fill an answer with white space.
            return LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
        case "regex" | "grammar" as kind:
            return grammar_from(kind, guidance.value)
    raise ValueError("the embedded engine holds no model to it; serve the model with vllm")


def _first_words(error: str) -> str:
    """Return what is wrong, without the state of the parser that llguidance tells behind it."""
    return error.partition("\n<state>")[0].strip()
