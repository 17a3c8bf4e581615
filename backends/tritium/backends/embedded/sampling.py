"""How the next token is picked from a row of logits, with the fields and the order of vLLM's sampler.

raw log probabilities -> allowed tokens, least length, biases, penalties, grammar -> greedy, or
temperature -> min_p -> top_k -> top_p -> draw
"""

import difflib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from tritium.backends.embedded.grammar import Grammar
from tritium.backends.embedded.weights import Floats
from tritium.backends.engine import TokenLogprob
from tritium.core.errors import InvalidArgument, Unsupported

Count = Annotated[int, msgspec.Meta(ge=0)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of vLLM's SamplingParams that mean something here; defaults are vLLM's."""

    temperature: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, msgspec.Meta(ge=-1)] = 0
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    seed: int | None = None
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    min_tokens: Count = 0
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = 16
    logprobs: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    structured_outputs: dict[str, Any] | None = None

    @property
    def plain(self) -> bool:
        """Tell whether the likeliest token is the answer, whatever came before it."""
        return (
            self.temperature < _GREEDY
            and self.logprobs is None
            and self.logit_bias is None
            and self.allowed_token_ids is None
            and self.structured_outputs is None
            and not self.min_tokens
            and not self.penalized
        )

    @property
    def penalized(self) -> bool:
        """Tell whether earlier tokens change later logits."""
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1.0)


# Below this a temperature is greedy, as vLLM's _SAMPLING_EPS.
_GREEDY = 1e-5
_ELSEWHERE = ("bad_words", "prompt_logprobs", "logits_processors", "repetition_detection")


def read_sampling(fields: dict[str, Any], vocabulary: int) -> Sampling:
    """Read the fields of a request.

    Raises:
        InvalidArgument: a field is unknown, of the wrong type or out of range.
        Unsupported: a field that vLLM has and this engine has not.
    """
    given = {name: value for name, value in fields.items() if value is not None or name == "max_tokens"}
    for name in given:
        if name in _ELSEWHERE:
            raise Unsupported(f"{name} is not supported by the embedded engine", "serve the model with vLLM")
        if name not in Sampling.__struct_fields__:
            close = difflib.get_close_matches(name, Sampling.__struct_fields__, 1)
            raise InvalidArgument(f"unknown sampling field {name!r}", f"did you mean {close[0]}?" if close else "")
    try:
        sampling = msgspec.convert(given, Sampling, str_keys=True)
    except msgspec.ValidationError as reason:
        raise InvalidArgument(f"sampling: {reason}") from None
    named = {*(sampling.logit_bias or ()), *(sampling.allowed_token_ids or ()), *(sampling.stop_token_ids or ())}
    for token in named:
        if not 0 <= token < vocabulary:
            raise InvalidArgument(f"sampling: token id {token} is outside the vocabulary of {vocabulary}")
    if sampling.allowed_token_ids == []:
        raise InvalidArgument("sampling: allowed_token_ids is empty")
    return sampling


class Sampler:
    """Picks the tokens of one sequence; holds its random numbers and counts of earlier tokens."""

    def __init__(
        self,
        sampling: Sampling,
        prompt: list[int],
        end_tokens: frozenset[int],
        seed: int,
        grammar: Grammar | None = None,
    ) -> None:
        self.sampling = sampling
        self.grammar = grammar
        self.plain = sampling.plain
        self._random = np.random.default_rng(sampling.seed % (1 << 64) if sampling.seed is not None else seed)
        self._prompt = np.unique(prompt) if sampling.repetition_penalty != 1.0 else np.empty(0, np.int64)
        self._produced: Counter[int] = Counter()
        self._ends = end_tokens
        self._count = 0
        if sampling.logit_bias:
            self._biased = np.fromiter(sampling.logit_bias, np.int64)
            # vLLM clips as well.
            self._biases = np.clip(np.fromiter(sampling.logit_bias.values(), np.float64), -100, 100)

    def resume(self, tokens: Sequence[int]) -> None:
        """Come to the state of one who has picked these tokens."""
        if self.grammar is not None:
            for token in tokens:
                self.grammar.take(token)
        if self.sampling.penalized:
            self._produced.update(tokens)
        if self.sampling.temperature >= _GREEDY:
            self._random.random(len(tokens))

    def pick(self, logits: Floats) -> int:
        """Return the next token for a row of logits, which may be changed; call it once a token."""
        sampling = self.sampling
        if sampling.allowed_token_ids is not None:
            allowed = np.full_like(logits, -np.inf)
            allowed[sampling.allowed_token_ids] = logits[sampling.allowed_token_ids]
            logits = allowed
        if self._count < sampling.min_tokens:
            logits[list(self._ends)] = -np.inf
        if sampling.logit_bias:
            logits[self._biased] += self._biases.astype(np.float32)
        if sampling.penalized:
            self._penalize(logits)
        if self.grammar is not None:
            self.grammar.allow(logits)
            if not np.isfinite(logits).any():
                return min(self._ends)  # other fields rule out all that the grammar allows
        token = int(logits.argmax()) if sampling.temperature < _GREEDY else self._draw(logits)
        if self.grammar is not None:
            self.grammar.take(token)
        self._count += 1
        if sampling.penalized:
            self._produced[token] += 1
        return token

    def _penalize(self, logits: Floats) -> None:
        sampling = self.sampling
        produced = np.fromiter(self._produced, np.int64, len(self._produced))
        if sampling.repetition_penalty != 1.0:
            seen = np.union1d(self._prompt, produced)
            factor = np.float32(sampling.repetition_penalty)
            logits[seen] = np.where(logits[seen] > 0, logits[seen] / factor, logits[seen] * factor)
        if len(produced):
            counts = np.fromiter(self._produced.values(), np.float32, len(produced))
            logits[produced] -= sampling.frequency_penalty * counts + sampling.presence_penalty

    def _draw(self, logits: Floats) -> int:
        sampling = self.sampling
        # Below a hundredth vLLM clips as well: the quotients would overflow.
        weights = np.exp((logits - logits.max()) / max(sampling.temperature, 0.01), dtype=np.float64)
        if sampling.min_p:
            weights[weights < sampling.min_p] = 0.0
        if sampling.top_k <= 0 and sampling.top_p >= 1.0:
            return self._draw_by(weights)
        order = np.argsort(-weights, kind="stable")
        if sampling.top_k > 0:
            order = order[: sampling.top_k]
        sums = np.cumsum(weights[order])
        # The token that crosses top_p is kept, and so is the first.
        kept = int(np.searchsorted(sums, sampling.top_p * sums[-1])) + 1
        return int(order[self._draw_by(weights[order[:kept]])])

    def _draw_by(self, weights: npt.NDArray[np.float64]) -> int:
        """Draw a place, each as likely as its weight."""
        sums = np.cumsum(weights)
        place = int(np.searchsorted(sums, self._random.random() * sums[-1], side="right"))
        return min(place, len(weights) - 1)


def log_probabilities(logits: Floats) -> Floats:
    """Return the log of the softmax of a row."""
    shifted = logits - logits.max()
    result: Floats = shifted - np.log(np.exp(shifted).sum())
    return result


def report(logprobs: npt.NDArray[np.float32], token: int, count: int) -> list[TokenLogprob]:
    """Return the picked token and then the `count` likeliest (-1: all), with their ranks."""
    count = len(logprobs) if count < 0 else min(count, len(logprobs))
    rank = int(np.count_nonzero(logprobs >= logprobs[token]))
    picked = TokenLogprob(token, float(logprobs[token]), rank)
    if not count:
        return [picked]
    top = np.argpartition(-logprobs, count - 1)[:count] if count < len(logprobs) else np.arange(count)
    top = top[np.argsort(-logprobs[top], kind="stable")]
    return [picked, *(TokenLogprob(int(id_), float(logprobs[id_]), place + 1) for place, id_ in enumerate(top))]
