"""The tensors of TensorRT-LLM's model `tensorrt_llm`: token ids in, token ids out.

    input_ids, input_lengths, request_output_len -> output_ids [1, 1, tokens], sequence_length [1, 1]

Each response is of one sequence. Stop words are lists of token ids, and are watched for as such.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from tritium.backends.engine import Delta, EngineInfo, FinishReason
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor
from tritium.llm.facade import outputs
from tritium.llm.facade.run import Completion, Run
from tritium.llm.facade.surface import Ask, Call, Generate, Stop, Target
from tritium.llm.facade.trtllm import Rows, completed, excluded, lora_of, refuse_unserved, sampling_of
from tritium.llm.facade.trtllm_extras import Extras
from tritium.llm.facade.trtllm_tensors import TOKEN_INPUTS, TOKEN_OUTPUTS
from tritium.llm.sampling import Sampling
from tritium.llm.tokenizer import Tokenizer

_REQUIRED: Final = frozenset({"input_ids", "input_lengths", "request_output_len"})
_NAMES: Final = {"top_k": "runtime_top_k", "top_p": "runtime_top_p"}


class TrtllmTokensSurface:
    """Prompts and answers as `tensorrt_llm` has them."""

    def complete(self, config: ModelConfig) -> ModelConfig:
        """Add what a configuration leaves out; one without any inputs is decoupled and takes batches."""
        return completed(config, TOKEN_INPUTS, TOKEN_OUTPUTS, _REQUIRED)

    def read(self, request: InferRequest, config: ModelConfig, target: Target) -> Call:
        """Read a request of one prompt or a batch of them, or one that stops others.

        Raises:
            InferenceError: a value makes no sense, or asks for what is not served.
        """
        rows = Rows(request, batches=config.batches)
        if rows.row("stop", 0) is not None and rows.scalar("stop", 0):
            return Stop()
        refuse_unserved(rows)
        asks = [_ask(rows, row, target) for row in range(rows.count)]
        streams = [bool(rows.scalar("streaming", row)) for row in range(rows.count)]
        prepend = [not stream and not excluded(rows, row, config) for row, stream in enumerate(streams)]
        extras = Extras.of(rows, [ask.sampling for ask in asks])
        answers = _Answers(target.fleet.info, extras, streams, prepend)
        return Generate(asks, answers, streams=any(streams), stoppable=True)


def _ask(rows: Rows, row: int, target: Target) -> Ask:
    ids = rows.row("input_ids", row)
    if ids is None:
        raise InvalidArgument("A value is required for input_ids")
    if ids.size == 0:
        raise InvalidArgument("Invalid format for input_ids")
    length = rows.scalar("input_lengths", row)
    prompt = ids[: ids.size if length is None else max(0, length)].tolist()
    max_tokens = rows.scalar("request_output_len", row)
    if max_tokens is None:
        raise InvalidArgument("A value is required for request_output_len")
    bad = [target.tokenizer.decode(word) for word in _words(rows, "bad_words_list", row)]
    fields: dict[str, Any] = {"bad_words": bad or None, "logit_bias": _bias(rows, row) or None}
    sampling = sampling_of(rows, row, max_tokens, {**_NAMES, "max_tokens": "request_output_len"}, fields)
    stops = _words(rows, "stop_words_list", row)
    return Ask(
        prompt,
        sampling,
        field="input_ids",
        lora=lora_of(rows, row, target),
        follow=partial(_Tokens, stops),
    )


def _words(rows: Rows, name: str, row: int) -> list[list[int]]:
    """Return the words of a list in TensorRT-LLM's form: their ids one after another, above where each of them ends.

    Raises:
        InvalidArgument: it is not of that form.
    """
    part = rows.row(name, row)
    if part is None or part.size == 0:
        return []
    if part.size % 2:
        raise InvalidArgument(f"Invalid format for word list: {name}")
    ids, ends = part.reshape(2, -1).tolist()
    words, begin = [], 0
    for end in (end for end in ends if end != -1):
        if not begin < end <= len(ids):
            raise InvalidArgument(f"Invalid format for word list: {name}")
        words.append(ids[begin:end])
        begin = end
    return words


def _bias(rows: Rows, row: int) -> dict[int, float]:
    part = rows.row("embedding_bias", row)
    if part is None:
        return {}
    return {int(token): float(part[token]) for token in np.flatnonzero(part)}


class _Tokens:
    """The tokens of one sequence; the token that ended it is no part of the answer, a stop word is."""

    __slots__ = ("_before", "_kept", "_longest", "_min_tokens", "_seen", "_stops", "finish", "stop_reason")

    def __init__(
        self, stops: Sequence[Sequence[int]], tokenizer: Tokenizer, sampling: Sampling, prompt: Sequence[int]
    ) -> None:
        del tokenizer, prompt  # a Follower of text needs them
        self._stops = [list(stop) for stop in stops]
        self._longest = max(map(len, self._stops), default=0)
        self._min_tokens = sampling.min_tokens
        self._before: list[int] = []
        self._seen = 0
        self._kept = 0
        self.finish: str | None = None
        self.stop_reason: str | int | None = None

    def push(self, delta: Delta) -> str:
        """Take a delta; there is no text."""
        token_ids = delta.token_ids[:-1] if delta.finish == FinishReason.STOP else delta.token_ids
        self._kept = len(token_ids)
        self.finish, self.stop_reason = delta.finish, delta.stop_token
        if self._stops:
            self._watch(token_ids)
        return ""

    def kept(self, delta: Delta) -> int:  # noqa: ARG002  a Follower's
        """Return how many of the delta's tokens belong to the answer."""
        return self._kept

    def _watch(self, token_ids: Sequence[int]) -> None:
        for count, token in enumerate(token_ids, 1):
            self._before = [*self._before, token][-self._longest :]
            self._seen += 1
            if self._seen >= self._min_tokens and any(self._before[-len(stop) :] == stop for stop in self._stops):
                self._kept, self.finish = count, FinishReason.STOP
                return


@dataclass(frozen=True, slots=True)
class _Answers:
    """Responses of one sequence each; `streams` and `prepend` are by prompt."""

    info: EngineInfo
    extras: Extras
    streams: Sequence[bool]
    prepend: Sequence[bool]

    def respond(self, moved: Completion, run: Run) -> list[Tensor] | None:
        """Return what a sequence gained: at each step of a stream, else once it is over."""
        if not moved.over and not self.streams[moved.ask_index]:
            return None
        token_ids = moved.take().token_ids
        if self.prepend[moved.ask_index]:
            token_ids = [*moved.prompt, *token_ids]
        return [
            outputs.integers("output_ids", [[token_ids]]),
            outputs.integers("sequence_length", [[len(token_ids)]]),
            *self.extras.tensors(moved, run, self.info.block_tokens),
        ]
