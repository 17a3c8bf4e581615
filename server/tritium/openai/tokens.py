"""POST /tokenize and /detokenize, in the shapes of vLLM's server: text or a conversation to token ids, and back."""

import asyncio
from typing import Any

import msgspec

from tritium.llm.errors import FieldRefused
from tritium.llm.model import LanguageModel
from tritium.llm.models import LanguageModels, Served
from tritium.llm.tokenizer import Tokenizer
from tritium.openai.chat import chat_order
from tritium.openai.media.policy import MediaPolicy
from tritium.openai.options import OpenAIOptions
from tritium.openai.schema import ChatRequest, Reader
from tritium.openai.status import json_response
from tritium.openai.visit import Visit
from tritium.wire.http import Response


class TokenizeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A text in `prompt`, or a conversation in `messages`; `model` may be absent where there is only one."""

    model: str = ""
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    """Whether the tokenizer adds its own start and end tokens: it does to a text, not to a conversation."""
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None


class Tokens(msgspec.Struct, omit_defaults=True):
    """The token ids, and where asked for the text of each."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Token ids."""

    tokens: list[int]
    model: str = ""


class Detokenized(msgspec.Struct):
    """The text that the tokens stand for, special ones included."""

    prompt: str


_TOKENIZE = Reader(TokenizeRequest)
_DETOKENIZE = Reader(DetokenizeRequest)

_MOST_CHARACTERS = 4 << 20
_CHARACTERS_A_TOKEN = 16
"""Hardly any text has longer tokens on the average."""

_SHORT_TOKENS = 8_192
"""Up to so many tokens are turned into text on the event loop (a few ms); more in a thread."""


async def tokenize(visit: Visit, models: LanguageModels, options: OpenAIOptions) -> Response:
    """POST /tokenize."""
    call = visit.read(_TOKENIZE)
    if (call.prompt is None) == (call.messages is None):
        raise FieldRefused("prompt", "give either prompt or messages")
    served = only_model(models, call.model)
    tokenizer = served.model.tokenizer
    if call.prompt is not None:
        check_length(call.prompt, served.model, "prompt")
        token_ids = await tokenizer.encode(call.prompt, add_special=call.add_special_tokens is not False)
    else:
        token_ids = await _conversation(call, served, models, options.media)
    return json_response(
        visit,
        Tokens(
            len(token_ids),
            served.model.fleet.info.context_tokens,
            token_ids,
            [tokenizer.token_bytes(i).decode("utf-8", "replace") for i in token_ids]
            if call.return_token_strs
            else None,
        ),
    )


async def detokenize(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """POST /detokenize."""
    call = visit.read(_DETOKENIZE)
    tokenizer = only_model(models, call.model).model.tokenizer
    if len(call.tokens) <= _SHORT_TOKENS:
        return json_response(visit, _text_of(call.tokens, tokenizer))
    return json_response(visit, await asyncio.to_thread(_text_of, call.tokens, tokenizer))


def _text_of(token_ids: list[int], tokenizer: Tokenizer) -> Detokenized:
    check_tokens(token_ids, tokenizer, "tokens")
    text = tokenizer.detokenizer([], skip_special=False)
    return Detokenized(text.push(token_ids) + text.flush())


def only_model(models: LanguageModels, name: str) -> Served:
    """Return the model of that name, or where none is given the only one there is.

    Raises:
        FieldRefused: no name is given, and there are several.
        NotFound, Unavailable: there is none of that name, or it cannot take requests.
    """
    if name:
        return models.find(name)
    served = [one for one in models.all() if not one.lora]
    if len(served) != 1:
        raise FieldRefused("model", f"Missing required parameter: 'model': there are {len(served)} models")
    return served[0]


def check_length(text: str, model: LanguageModel, field: str) -> None:
    """Refuse a text far beyond any context: tokenizing takes a hundred times its memory.

    Raises:
        FieldRefused: naming the field that holds it.
    """
    most = max(_MOST_CHARACTERS, _CHARACTERS_A_TOKEN * model.fleet.info.context_tokens)
    if len(text) > most:
        raise FieldRefused(field, f"{field} has {len(text)} characters, of which up to {most} are tokenized")


def check_tokens(token_ids: list[int], tokenizer: Tokenizer, field: str) -> None:
    """Refuse token ids that the vocabulary has not.

    Raises:
        FieldRefused: naming the first of them.
    """
    size = tokenizer.vocabulary_size
    if (wrong := next((i for i in token_ids if not 0 <= i < size), None)) is not None:
        raise FieldRefused(field, f"token id {wrong} is not in the vocabulary of {size} tokens")


async def _conversation(
    call: TokenizeRequest, served: Served, models: LanguageModels, policy: MediaPolicy
) -> list[int]:
    chat = ChatRequest(
        model=served.name,
        messages=call.messages or [],
        tools=call.tools,
        tool_choice="none" if not call.tools else None,
        add_special_tokens=call.add_special_tokens,
        add_generation_prompt=call.add_generation_prompt,
        continue_final_message=call.continue_final_message,
        chat_template=call.chat_template,
        chat_template_kwargs=call.chat_template_kwargs,
    )
    order = await chat_order(chat, models, policy)
    return order.prompts[0].token_ids
