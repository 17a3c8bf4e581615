"""The tensors of TensorRT-LLM's models `ensemble` and `tensorrt_llm_bls`: a text in, a text out, a value an input.

Each response is of one sequence: of one prompt of the batch, and one of the answers to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritium.backends.engine import Delta, EngineInfo, FinishReason, Media
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument, Unsupported
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor
from tritium.llm.facade import outputs
from tritium.llm.facade.inputs import images_from
from tritium.llm.facade.run import Completion, Run
from tritium.llm.facade.surface import Ask, Call, Generate, Target
from tritium.llm.facade.trtllm import Rows, completed, excluded, lora_of, refuse_unserved, sampling_of
from tritium.llm.facade.trtllm_extras import Extras
from tritium.llm.facade.trtllm_tensors import TEXT_INPUTS, TEXT_OUTPUTS
from tritium.llm.sampling import Sampling
from tritium.llm.text import CompletionText
from tritium.llm.tokenizer import Tokenizer

_REQUIRED: Final = frozenset({"text_input", "max_tokens"})


class TrtllmTextSurface:
    """Prompts and answers as `ensemble` and `tensorrt_llm_bls` have them."""

    def complete(self, config: ModelConfig) -> ModelConfig:
        """Add what a configuration leaves out; one without any inputs is decoupled and takes batches."""
        return completed(config, TEXT_INPUTS, TEXT_OUTPUTS, _REQUIRED)

    def read(self, request: InferRequest, config: ModelConfig, target: Target) -> Call:
        """Read a request of one prompt or a batch of them.

        Raises:
            InferenceError: a value makes no sense, or asks for what is not served.
        """
        rows = Rows(request, batches=config.batches)
        refuse_unserved(rows)
        asks = [_ask(rows, row, target) for row in range(rows.count)]
        streams = [bool(rows.scalar("stream", row)) for row in range(rows.count)]
        prepend = [not stream and not excluded(rows, row, config) for row, stream in enumerate(streams)]
        extras = Extras.of(rows, [ask.sampling for ask in asks])
        answers = _Answers(target.tokenizer, target.fleet.info, extras, streams, prepend)
        return Generate(asks, answers, streams=any(streams))


def _ask(rows: Rows, row: int, target: Target) -> Ask:
    prompt = rows.text("text_input", row)
    if prompt is None:
        raise InvalidArgument("text_input is required")
    max_tokens = rows.scalar("max_tokens", row)
    if max_tokens is None or max_tokens <= 0:
        raise InvalidArgument("max_tokens must be a single value > 0")
    fields: dict[str, Any] = {"stop": rows.words("stop_words", row), "bad_words": rows.words("bad_words", row) or None}
    fields["logit_bias"] = _bias(rows, row, target.tokenizer) or None
    sampling = sampling_of(rows, row, max_tokens, {"stop": "stop_words"}, fields)
    media = _images(rows, row, target.fleet.info)
    return Ask(prompt, sampling, lora=lora_of(rows, row, target), media=media, follow=_TrimmedText)


def _images(rows: Rows, row: int, info: EngineInfo) -> list[Media]:
    """Return the images of a prompt, which come as data URLs; nothing is fetched for a tensor."""
    urls = rows.words("image_url_input", row)
    for url in urls:
        if not url.startswith("data:"):
            raise Unsupported(
                "input 'image_url_input': only data URLs are served, no addresses",
                hint="send data:image/png;base64,..., or use the OpenAI API, which fetches from the hosts it may",
            )
    return images_from([url.partition(",")[2].encode() for url in urls], "image_url_input", info)


def _bias(rows: Rows, row: int, tokenizer: Tokenizer) -> dict[int, float]:
    """Return the bias of every token of the words that have one."""
    words = rows.row("embedding_bias_words", row)
    weights = rows.row("embedding_bias_weights", row)
    if words is None or weights is None:
        return {}
    if words.size != weights.size:
        raise InvalidArgument("Embedding bias words must have same dimension as embedding bias weights")
    biases: dict[int, float] = {}
    for word, weight in zip(rows.words("embedding_bias_words", row), weights.tolist(), strict=False):
        for token in tokenizer.encode_now(word, add_special=False):
            biases[token] = biases.get(token, 0.0) + weight
    return biases


class _TrimmedText:
    """The text of one sequence; the token that ended it is no part of the answer, a stop word is."""

    __slots__ = ("_kept", "_text")

    def __init__(self, tokenizer: Tokenizer, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._text = CompletionText(tokenizer, sampling, list(prompt))
        self._kept = 0

    @property
    def finish(self) -> str | None:
        return self._text.finish

    @finish.setter
    def finish(self, reason: str | None) -> None:
        self._text.finish = reason

    @property
    def stop_reason(self) -> str | int | None:
        return self._text.stop_reason

    def push(self, delta: Delta) -> str:
        """Take a delta and return the text it makes safe to send."""
        if delta.finish == FinishReason.STOP:
            delta.token_ids = delta.token_ids[:-1]
        self._kept = len(delta.token_ids)
        return self._text.push(delta)

    def kept(self, delta: Delta) -> int:  # noqa: ARG002  a Follower's
        """Return how many of the delta's tokens belong to the answer."""
        return self._kept


@dataclass(frozen=True, slots=True)
class _Answers:
    """Responses of one sequence each; `streams` and `prepend` are by prompt."""

    tokenizer: Tokenizer
    info: EngineInfo
    extras: Extras
    streams: Sequence[bool]
    prepend: Sequence[bool]

    def respond(self, moved: Completion, run: Run) -> list[Tensor] | None:
        """Return what a sequence gained: at each step of a stream, else once it is over."""
        if not moved.over and not self.streams[moved.ask_index]:
            return None
        text = moved.take().text
        if self.prepend[moved.ask_index]:
            text = self.tokenizer.decode(moved.prompt) + text
        return [outputs.texts("text_output", [text]), *self.extras.tensors(moved, run, self.info.block_tokens)]
