"""The answers of the OpenAI routes, whole; a stream's chunks are cut from bytes in `openai.chunks`."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType


class PromptTokensDetails(msgspec.Struct):
    """Of the prompt's tokens, those whose KV was found in a worker's cache."""

    cached_tokens: int = 0


class Usage(msgspec.Struct):
    """Tokens counted as OpenAI counts them: each prompt once, every completion with the token that ended it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TopLogprob(msgspec.Struct):
    """One of the likeliest tokens at a place."""

    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(msgspec.Struct):
    """The token at a place, with the likeliest ones."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct):
    """Log probabilities as chat completions give them."""

    content: list[ChatLogprob]
    refusal: None = None


class CompletionLogprobs(msgspec.Struct):
    """Log probabilities as plain completions give them: columns, one entry a token.

    An echoed prompt's first token has none.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class PromptScore(msgspec.Struct):
    """The log probability of a token at a place of the prompt."""

    logprob: float
    rank: int
    decoded_token: str


PromptScores = list[Mapping[str, PromptScore] | None]
"""For every token of the prompt: its own score and those of the likeliest, by token id; None for the first."""


class FunctionCall(msgspec.Struct):
    """The function that a tool call names; `arguments` is the JSON text of an object."""

    name: str
    arguments: str


class MessageToolCall(msgspec.Struct):
    """One of the calls that the model asks for."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class ChatMessage(msgspec.Struct):
    """What the model said. `reasoning` is the newer name of `reasoning_content`."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[MessageToolCall] | msgspec.UnsetType = msgspec.UNSET
    function_call: FunctionCall | msgspec.UnsetType = msgspec.UNSET
    """What `tool_calls` was called before there were tools; told to clients that ask with `functions`."""


class ChatChoice(msgspec.Struct):
    """One of the completions of a chat."""

    index: int
    message: ChatMessage
    finish_reason: str
    logprobs: ChatLogprobs | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | UnsetType = UNSET


class ChatCompletion(msgspec.Struct):
    """The answer to POST /v1/chat/completions."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None
    object: Literal["chat.completion"] = "chat.completion"
    prompt_token_ids: list[int] | UnsetType = UNSET
    prompt_logprobs: PromptScores | UnsetType = UNSET


class CompletionChoice(msgspec.Struct):
    """One of the completions of a prompt."""

    index: int
    text: str
    finish_reason: str
    logprobs: CompletionLogprobs | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET
    prompt_logprobs: PromptScores | UnsetType = UNSET


class Completion(msgspec.Struct):
    """The answer to POST /v1/completions."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None
    object: Literal["text_completion"] = "text_completion"


class ModelCard(msgspec.Struct):
    """One name a request may use; `parent` is the model that an adapter adapts."""

    id: str
    created: int
    object: Literal["model"] = "model"
    owned_by: str = "tritium"
    root: str = ""
    parent: str | None = None
    max_model_len: int = 0


class ModelList(msgspec.Struct):
    """The answer to GET /v1/models."""

    data: list[ModelCard]
    object: Literal["list"] = "list"
