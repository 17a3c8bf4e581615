"""The tensors of Triton's vllm_backend, in its words: a text, fields in JSON, an element of each output a completion.

Source: triton-inference-server/vllm_backend, src/model.py and src/utils/request.py.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import msgspec

from tritium.backends.engine import GENERATE, TokenLogprob
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor
from tritium.llm.facade import outputs
from tritium.llm.facade.inputs import images_of, text_of, truth_of
from tritium.llm.facade.run import Completion, Run
from tritium.llm.facade.surface import Ask, Call, Embed, Generate, Target
from tritium.llm.facade.vllm_fields import fields_of
from tritium.llm.sampling import Sampling, split
from tritium.llm.tokenizer import Tokenizer

_MAX_TOKENS: Final = 16
"""vLLM's own default of max_tokens."""
_FAILED: Final = "Error generating stream: "
"""How vllm_backend begins what goes wrong once it has taken a request."""

_FLAGS = (
    "return_finish_reason",
    "return_cumulative_logprob",
    "return_logprobs",
    "return_num_input_tokens",
    "return_num_output_tokens",
)
_INPUTS: tuple[outputs.TensorRow, ...] = (
    ("text_input", "BYTES", [1]),
    ("image", "BYTES", [-1]),
    ("stream", "BOOL", [1]),
    ("sampling_parameters", "BYTES", [1]),
    ("exclude_input_in_output", "BOOL", [1]),
    *((flag, "BOOL", [1]) for flag in _FLAGS),
    ("embedding_request", "BYTES", [1]),
)
_OUTPUTS: tuple[outputs.TensorRow, ...] = (
    ("text_output", "BYTES", [-1]),
    ("finish_reason", "BYTES", [-1]),
    ("cumulative_logprob", "FP32", [-1]),
    ("logprobs", "BYTES", [-1]),
    ("num_input_tokens", "UINT32", [1]),
    ("num_output_tokens", "UINT32", [-1]),
)


class VllmSurface:
    """Prompts and answers as vllm_backend has them."""

    def complete(self, config: ModelConfig) -> ModelConfig:
        """Add what a configuration leaves out, and what every model of the backend is: decoupled, not batched.

        `text_input` stays required though embedding requests do without it, for so vllm_backend declares it.
        """
        return outputs.completed(
            config, _INPUTS, _OUTPUTS, required=frozenset({"text_input"}), max_batch_size=0, decoupled=True
        )

    def read(self, request: InferRequest, config: ModelConfig, target: Target) -> Call:  # noqa: ARG002  a Surface's
        """Read a request: to generate, or to embed.

        Raises:
            InferenceError: a value makes no sense, or asks for what the model does not do.
        """
        embedding = text_of(request, "embedding_request")
        task = GENERATE if embedding is None else "embed"
        if task not in target.fleet.info.tasks:
            raise InvalidArgument(
                f"{_FAILED}Model {target.name} does not support '{task}' request",
                hint=f"it does: {', '.join(target.fleet.info.tasks)}",
            )
        returns = frozenset(flag for flag in _FLAGS if truth_of(request, flag))
        if embedding is not None:
            return _embedding(embedding, returns)
        return _generation(request, returns, target)


def _generation(request: InferRequest, returns: frozenset[str], target: Target) -> Generate:
    stream = truth_of(request, "stream") or False
    exclude = truth_of(request, "exclude_input_in_output")
    if exclude is None:
        exclude = stream
    if stream and not exclude:
        raise InvalidArgument(f"{_FAILED}When streaming, `exclude_input_in_output` = False is not allowed.")
    fields = fields_of(text_of(request, "sampling_parameters"), request.parameters)
    lora = str(fields.pop("lora_name", None) or "")
    _check_lora(lora, target)
    prompt = text_of(request, "text_input") or ""
    ask = Ask(prompt, _sampling(fields, returns), lora=lora, media=images_of(request, "image", target.fleet.info))
    scored = fields.get("logprobs") is not None
    answers = _Answers(target.tokenizer, returns, "" if exclude else prompt, stream=stream, scored=scored)
    return Generate([ask], answers, streams=stream)


def _sampling(fields: dict[str, Any], returns: frozenset[str]) -> Sampling:
    sampling = split(fields)
    if "max_tokens" not in fields:
        sampling = replace(sampling, max_tokens=_MAX_TOKENS)
    if "return_cumulative_logprob" in returns and sampling.logprobs is None:
        # The sum needs the sampled tokens' scores, whether or not the client wants to see them.
        sampling = replace(sampling, engine={**sampling.engine, "logprobs": 0})
    return sampling


def _check_lora(lora: str, target: Target) -> None:
    if not lora:
        return
    if not target.loras:
        raise InvalidArgument("LoRA feature is not enabled.")
    if lora not in target.loras:
        raise InvalidArgument(f"LoRA {lora} is not supported, we currently support {list(target.loras)}")


@dataclass(frozen=True, slots=True)
class _Answers:
    """Responses in vllm_backend's outputs; `prompt` is what is put before the text."""

    tokenizer: Tokenizer
    returns: frozenset[str]
    prompt: str
    stream: bool
    scored: bool

    def respond(self, moved: Completion, run: Run) -> list[Tensor] | None:  # noqa: ARG002  all of them, not one
        """Return what every completion gained: at each step of a stream, else once all are over."""
        if not self.stream and not run.over:
            return None
        completions, returns = run.completions, self.returns
        gains = [completion.take() for completion in completions]
        made = [outputs.texts("text_output", [self.prompt + gain.text for gain in gains])]
        if "return_finish_reason" in returns:
            made.append(outputs.texts("finish_reason", [str(c.follower.finish) for c in completions]))
        if "return_cumulative_logprob" in returns:
            made.append(outputs.floats("cumulative_logprob", [c.cumulative_logprob for c in completions]))
        if "return_logprobs" in returns:
            scores = [logprobs_json(self.tokenizer, gain.logprobs) if self.scored else "null" for gain in gains]
            made.append(outputs.texts("logprobs", scores))
        if "return_num_input_tokens" in returns:
            made.append(outputs.integers("num_input_tokens", [completions[0].prompt_tokens], "UINT32"))
        if "return_num_output_tokens" in returns:
            made.append(outputs.integers("num_output_tokens", [len(gain.token_ids) for gain in gains], "UINT32"))
        return made


def logprobs_json(tokenizer: Tokenizer, places: Sequence[Sequence[TokenLogprob]]) -> str:
    """Return scores as vllm_backend writes them: one object a token, from token id to score, rank and text."""
    return json.dumps(
        [
            {
                str(entry.token_id): {
                    "logprob": entry.logprob,
                    "rank": entry.rank,
                    "decoded_token": tokenizer.token_bytes(entry.token_id).decode("utf-8", "replace"),
                }
                for entry in entries
            }
            for entries in places
        ]
    )


class _PoolingFields(msgspec.Struct):
    dimensions: list[Annotated[int, msgspec.Meta(ge=1)]] | None = None


class _EmbeddingRequest(msgspec.Struct):
    """What `embedding_request` holds, in JSON."""

    input: str | list[int]
    pooling_params: _PoolingFields = msgspec.field(default_factory=_PoolingFields)


def _embedding(text: str, returns: frozenset[str]) -> Embed:
    try:
        asked = msgspec.json.decode(text, type=_EmbeddingRequest)
    except msgspec.MsgspecError as error:
        raise InvalidArgument(
            f"embedding_request is not what it should be: {error}",
            hint='{"input": "a text, or a list of token ids", "pooling_params": {"dimensions": [256]}}',
        ) from None

    def made(vector: Sequence[float], tokens: int) -> list[Tensor]:
        tensors = [outputs.texts("text_output", [json.dumps(list(vector))])]
        if "return_num_input_tokens" in returns:
            tensors.append(outputs.integers("num_input_tokens", [tokens], "UINT32"))
        if "return_num_output_tokens" in returns:
            tensors.append(outputs.integers("num_output_tokens", [0], "UINT32"))
        return tensors

    dimensions = asked.pooling_params.dimensions
    return Embed(asked.input, made, "embedding_request", {"dimensions": dimensions[0]} if dimensions else {})
