"""What each generation of a mocker says: requests become generations, and every step gives them a token.

begin(Generate) -> Generation -> extend ... -> the delta with `finish`
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tritium.backends.engine import Delta, FinishReason, Generate, TokenLogprob
from tritium.backends.mocker.answers import NextToken, echo, read_vocabulary, words
from tritium.backends.mocker.content import TokenContent
from tritium.backends.mocker.sampling import Sampling, made_up, read_sampling
from tritium.backends.mocker.scheduler import Sequence
from tritium.backends.mocker.settings import Settings
from tritium.core.errors import InferenceError, InvalidArgument


@dataclass(slots=True, eq=False)
class Generation:
    """What a sequence is asked for, beside the scheduler's view of it; `tokens` are prompt and output."""

    sequence: Sequence
    tokens: list[int]
    sampling: Sampling
    last_length: int
    """How many tokens, prompt and output, it has at the most."""
    least_length: int
    follow: NextToken
    endless: NextToken
    stops: frozenset[int]
    keep: bool
    asked_tokens: int
    """How many of `tokens` the client asked with: without those that another worker had generated before."""


class Speaker:
    """The answers of one engine.

    Raises:
        InvalidArgument: a file of the model that tells its vocabulary cannot be read.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        mocker = settings.mocker
        try:
            vocabulary = read_vocabulary(folder, words=mocker.answer == "words", size=mocker.vocabulary)
        except msgspec.DecodeError as reason:
            raise InvalidArgument(f"the model's files in {folder}: {reason}") from None
        self._context = settings.context
        self._vocabulary = vocabulary
        self._answers = echo if mocker.answer == "echo" else words(vocabulary, settings.seed, mocker.answer_tokens)

    def begin(self, request: Generate, loras: Collection[str]) -> Generation:
        """Check a request and make it a generation.

        Raises:
            InvalidArgument, Unsupported: the request is at fault.
            InferenceError: the KV that it brings cannot be taken.
        """
        tokens, context = request.token_ids, self._context
        if not tokens or len(tokens) >= context:
            raise InvalidArgument(f"the prompt has {len(tokens)} tokens and the context of this model is {context}")
        if request.lora and request.lora not in loras:
            known = ", ".join(sorted(loras)) or "none"
            raise InvalidArgument(f"the model has no LoRA adapter '{request.lora}'; it has {known}")
        if request.transfer is not None and request.transfer.get("engine") != "mocker":
            raise InferenceError("the prompt was computed by another kind of engine: a mocker cannot take its KV")
        sampling = read_sampling(request.sampling)
        answers = self._answers(sampling.seed)
        own = list(tokens)
        sequence = Sequence(
            request.id,
            TokenContent(own, lora=request.lora, salt=request.cache_salt),
            len(tokens),
            len(tokens),
            request.priority,
            remote=request.transfer is not None,
        )
        return Generation(
            sequence,
            own,
            sampling,
            min(context, len(tokens) + (sampling.max_tokens or context)),
            len(tokens) + sampling.min_tokens,
            answers.endless if sampling.ignore_eos else answers.ending,
            answers.endless,
            frozenset(sampling.stop_token_ids or ()),
            request.keep,
            len(tokens) - request.resumed_tokens,
        )

    def extend(self, generation: Generation) -> Delta:
        """Give a generation its next token; the first delta says what became of the prompt."""
        sequence = generation.sequence
        tokens = generation.tokens
        length = sequence.length
        token = generation.follow(tokens, generation.asked_tokens)
        if token is None and length < generation.least_length:
            token = generation.endless(tokens, generation.asked_tokens)
        delta = Delta(sequence.id, [] if token is None else [token])
        if length == sequence.prompt_tokens:
            delta.cached_tokens = sequence.cached_tokens
            if (wanted := generation.sampling.prompt_logprobs) is not None:
                delta.prompt_logprobs = [None, *(self._made_up(each, wanted) for each in tokens[1:])]
        if token is None:
            delta.finish = FinishReason.STOP
            if self._vocabulary.end is not None:
                delta.token_ids.append(self._vocabulary.end)
        elif token in generation.stops and length >= generation.least_length:
            delta.finish = FinishReason.STOP
            delta.stop_token = token
        elif length + 1 == generation.last_length:
            delta.finish = FinishReason.LENGTH
        tokens += delta.token_ids
        sequence.length += len(delta.token_ids)
        if (wanted := generation.sampling.logprobs) is not None:
            delta.logprobs = [self._made_up(each, wanted) for each in delta.token_ids]
        return delta

    def _made_up(self, token: int, wanted: int) -> list[TokenLogprob]:
        others = self._vocabulary.tokens
        return made_up(token, others, len(others) if wanted < 0 else wanted)
