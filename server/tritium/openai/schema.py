"""The requests of the OpenAI routes, and how their JSON is read.

Fields are OpenAI's, then those by which vLLM's server extends them (its clients send them in `extra_body`). Any
other field is refused by name, as OpenAI does, so that a misspelt one is not silently without effect; an operator may
have them ignored, as vLLM does.
"""

import re
from typing import Any, Generic, Literal, TypeVar

import msgspec
import structlog

from tritium.llm.errors import FieldRefused
from tritium.wire.http import Buffer


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What a stream carries beside its tokens."""

    include_usage: bool = False
    continuous_usage_stats: bool = False
    """vLLM's: every event has the usage so far, where `include_usage` is set."""
    include_obfuscation: bool = False
    """Taken and without effect: padding against traffic analysis is the business of whoever ends TLS."""


class JsonSchema(msgspec.Struct):
    """A JSON schema that the answer must satisfy."""

    name: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True):
    """The form of the answer. A structural tag is vLLM's: free text with parts that are held to a schema."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchema | None = None
    format: dict[str, Any] | None = None
    structures: list[dict[str, Any]] | None = None
    triggers: list[str] | None = None


class SamplingRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields that chat and plain completions share; None means not given."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None

    # Taken and without effect here: they concern OpenAI's own service.
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    # vLLM's extensions, by its names.
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_whitespace_pattern: str | None = None
    guided_decoding_backend: str | None = None
    thinking_token_budget: int | None = None
    prompt_logprobs: int | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    vllm_xargs: dict[str, Any] | None = None
    cache_salt: str | None = None
    priority: int | None = None
    request_id: str | None = None


class ChatRequest(SamplingRequest, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    modalities: list[str] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    documents: list[dict[str, Any]] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    include_reasoning: bool | None = None


class CompletionRequest(SamplingRequest, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/completions. A prompt is text, token ids, or a list of either."""

    prompt: str | list[str | int | list[int]]
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | None = None
    suffix: str | None = None


log = structlog.get_logger(__name__)

T = TypeVar("T", bound=msgspec.Struct)

_UNKNOWN_CODE = "unknown_parameter"

_FAULT = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)


class Reader(Generic[T]):
    """Reads one kind of request and says which field is at fault."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._decoder = msgspec.json.Decoder(kind)
        self._lenient: msgspec.json.Decoder[T] | None = None

    def read(self, body: Buffer, *, ignore_unknown: bool = False) -> T:
        """Decode a body; with `ignore_unknown`, fields of it that nobody knows are warned of and passed over.

        Raises:
            FieldRefused: it is no JSON, or a field is unknown, missing or of the wrong type.
        """
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            refusal = _refusal(str(error))
            if ignore_unknown and refusal.code == _UNKNOWN_CODE and "." not in refusal.field:
                log.warning("unknown_field_ignored", field=refusal.field, request=self._kind.__name__)
                return self._read_leniently(body)
            raise refusal from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FieldRefused("", f"We could not parse the JSON body of your request: {error}") from None

    def _read_leniently(self, body: Buffer) -> T:
        if self._lenient is None:
            kind = msgspec.defstruct(self._kind.__name__, (), bases=(self._kind,), forbid_unknown_fields=False)
            self._lenient = msgspec.json.Decoder(kind)
        try:
            return self._lenient.decode(body)
        except msgspec.ValidationError as error:
            raise _refusal(str(error)) from None


def _refusal(fault: str) -> FieldRefused:
    match = _FAULT.fullmatch(fault)
    what, path = (match["what"], match["path"] or "") if match else (fault, "")
    within = path.removeprefix(".")
    if unknown := _UNKNOWN.fullmatch(what):
        name = f"{within}.{unknown['name']}".removeprefix(".")
        return FieldRefused(name, f"Unrecognized request argument supplied: {name}", code=_UNKNOWN_CODE)
    if missing := _MISSING.fullmatch(what):
        name = f"{within}.{missing['name']}".removeprefix(".")
        return FieldRefused(name, f"Missing required parameter: '{name}'.", code="missing_required_parameter")
    message = f"Invalid type for '{within}': {what}." if within else f"Invalid request body: {what}."
    return FieldRefused(within, message, code="invalid_type")
