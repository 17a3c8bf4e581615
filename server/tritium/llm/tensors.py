"""The tensors of a language model on the KServe protocols: those of Triton's vllm_backend, in its words.

Source: triton-inference-server/vllm_backend, src/model.py (auto_complete_config) and src/utils/request.py.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from tritium.backends.engine import TokenLogprob
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import InvalidArgument, Unsupported
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor, from_array
from tritium.llm.tokenizer import Tokenizer

_FLAGS = (
    "return_finish_reason",
    "return_cumulative_logprob",
    "return_logprobs",
    "return_num_input_tokens",
    "return_num_output_tokens",
)
_INPUTS: tuple[tuple[str, str, int], ...] = (
    ("text_input", "TYPE_STRING", 1),
    ("image", "TYPE_STRING", -1),
    ("stream", "TYPE_BOOL", 1),
    ("sampling_parameters", "TYPE_STRING", 1),
    ("exclude_input_in_output", "TYPE_BOOL", 1),
    *((flag, "TYPE_BOOL", 1) for flag in _FLAGS),
    ("embedding_request", "TYPE_STRING", 1),
)
_OUTPUTS: tuple[tuple[str, str, int], ...] = (
    ("text_output", "TYPE_STRING", -1),
    ("finish_reason", "TYPE_STRING", -1),
    ("cumulative_logprob", "TYPE_FP32", -1),
    ("logprobs", "TYPE_STRING", -1),
    ("num_input_tokens", "TYPE_UINT32", 1),
    ("num_output_tokens", "TYPE_UINT32", -1),
)

_INTEGERS = frozenset(
    {"n", "max_tokens", "min_tokens", "top_k", "seed", "logprobs", "prompt_logprobs", "thinking_token_budget"}
)
_FLOATS = frozenset(
    {"temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "length_penalty"}
)
_BOOLEANS = frozenset({"ignore_eos", "include_stop_str_in_output", "skip_special_tokens"})
_NOT_SAMPLING = frozenset({"id", "priority", "timeout", "sequence_id", "sequence_start", "sequence_end"})
"""Keys that the generate extension leaves among the parameters though they are the server's own."""
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def complete_config(config: ModelConfig) -> ModelConfig:
    """Add the tensors that a configuration leaves out, and what every language model is: decoupled, not batched."""
    proto = model_config_pb2.ModelConfig()
    proto.CopyFrom(config.proto)
    types = model_config_pb2.DataType
    inputs, outputs = {i.name for i in proto.input}, {o.name for o in proto.output}
    for name, kind, size in _INPUTS:
        if name not in inputs:
            proto.input.add(name=name, data_type=types.Value(kind), dims=[size], optional=name != "text_input")
    for name, kind, size in _OUTPUTS:
        if name not in outputs:
            proto.output.add(name=name, data_type=types.Value(kind), dims=[size])
    proto.model_transaction_policy.decoupled = True
    proto.max_batch_size = 0
    return from_proto(proto)


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A request in vllm_backend's tensors, read. `fields` are SamplingParams fields, `returns` the flags set."""

    prompt: str
    stream: bool
    prepend: bool
    fields: dict[str, Any]
    returns: frozenset[str]
    lora: str


def read_request(request: InferRequest) -> TextRequest:
    """Read a request that has passed the check of names, datatypes and shapes.

    Raises:
        InvalidArgument: a value makes no sense.
        Unsupported: it asks for embeddings or sends images.
    """
    for name, what in (("image", "images are"), ("embedding_request", "embeddings are")):
        if request.input(name) is not None:
            raise Unsupported(f"{what} not served by this model", hint=f"leave the input '{name}' out")
    stream = _truth(request, "stream") or False
    exclude = _truth(request, "exclude_input_in_output")
    if exclude is None:
        exclude = stream
    if stream and not exclude:
        raise InvalidArgument("When streaming, `exclude_input_in_output` = False is not allowed.")
    fields = _sampling_fields(request)
    return TextRequest(
        prompt=_text(request, "text_input") or "",
        stream=stream,
        prepend=not exclude,
        lora=str(fields.pop("lora_name", None) or ""),
        fields=fields,
        returns=frozenset(flag for flag in _FLAGS if _truth(request, flag)),
    )


def texts(name: str, values: Sequence[str]) -> Tensor:
    """Make a tensor of strings, one a completion."""
    return from_array(name, np.array([value.encode() for value in values], dtype=object), "BYTES")


def floats(name: str, values: Sequence[float]) -> Tensor:
    """Make an FP32 tensor, one value a completion."""
    return from_array(name, np.array(values, dtype=np.float32), "FP32")


def counts(name: str, values: Sequence[int]) -> Tensor:
    """Make a UINT32 tensor."""
    return from_array(name, np.array(values, dtype=np.uint32), "UINT32")


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


def _sampling_fields(request: InferRequest) -> dict[str, Any]:
    """Return the sampling fields: those in the tensor if there is one, else the request's own parameters."""
    text = _text(request, "sampling_parameters")
    if text is None:
        fields: dict[str, Any] = {
            name: value
            for name, value in request.parameters.items()
            if name not in _NOT_SAMPLING and not name.startswith("triton_")
        }
    else:
        try:
            fields = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise InvalidArgument(f"sampling_parameters is not a JSON object: {error}") from None
    for old in ("guided_decoding", "structured_outputs"):
        if isinstance(fields.get(old), str):
            fields[old] = _structure(old, fields[old])
    if "guided_decoding" in fields:
        fields["structured_outputs"] = fields.pop("guided_decoding")
    return {name: _converted(name, value) for name, value in fields.items()}


def _structure(name: str, text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"{name} is not a JSON object: {error}") from None


def _converted(name: str, value: Any) -> Any:
    """Return a number or truth value that was sent as a string as what it is; vllm_backend's own samples send such."""
    if not isinstance(value, str):
        return value
    try:
        if name in _INTEGERS:
            return int(value)
        if name in _FLOATS:
            return float(value)
        if name in _BOOLEANS:
            return _TRUTH[value.lower()]
    except (ValueError, KeyError):
        raise InvalidArgument(f"sampling parameter {name} has the value '{value}'") from None
    return value


def _text(request: InferRequest, name: str) -> str | None:
    tensor = request.input(name)
    if tensor is None:
        return None
    try:
        return bytes(tensor.array().reshape(-1)[0]).decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"input '{name}' is not UTF-8 text") from None


def _truth(request: InferRequest, name: str) -> bool | None:
    tensor = request.input(name)
    return None if tensor is None else bool(tensor.array().reshape(-1)[0])
