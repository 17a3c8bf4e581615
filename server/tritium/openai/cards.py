"""GET /v1/models and /v1/models/{id}, in OpenAI's shape, or in Anthropic's for who sends `anthropic-version`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import parse_qs

import msgspec

from tritium.core.errors import Unavailable
from tritium.llm.errors import FieldRefused
from tritium.llm.models import LanguageModels, OfferedAsText, Served
from tritium.openai.options import OpenAIOptions
from tritium.openai.responses import ModelCard, ModelList
from tritium.openai.status import json_response
from tritium.openai.visit import Visit
from tritium.wire.http import Response

_PAGE = 20
_LONGEST_PAGE = 1000
"""How many models Anthropic's list has where nothing is said, and at most."""


class ModelInfo(msgspec.Struct):
    """One model as Anthropic describes it."""

    id: str
    created_at: str
    display_name: str
    max_input_tokens: int
    max_tokens: int
    type: Literal["model"] = "model"
    lifecycle: Literal["active"] = "active"


class ModelReady(msgspec.Struct):
    """The model can take requests."""

    id: str
    ready: bool = True


class ModelPage(msgspec.Struct):
    """Some of the models, as Anthropic lists them."""

    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


async def list_models(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """GET /v1/models: every name a request may use.

    While the server loads what it begins with and has none yet it is 503: who waits for it to come up by asking for the
    list, as vLLM's clients do, must not take an empty one for an answer.
    """
    if models.starting and not models.all() and not models.offered():
        raise Unavailable("The server is still loading its models.", hint="try again in a while")
    if _anthropic(visit):
        return json_response(visit, _page(models.all(), visit.request.query))
    offered = [ModelCard(id=one.name, created=one.loaded_s, root=one.name) for one in models.offered()]
    return json_response(visit, ModelList([*(_card(served) for served in models.all()), *offered]))


async def one_model(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """GET /v1/models/{id}."""
    try:
        served = models.find(visit.argument)
    except OfferedAsText as tensors:
        one = tensors.offered
        return json_response(visit, ModelCard(id=one.name, created=one.loaded_s, root=one.name))
    return json_response(visit, _info(served) if _anthropic(visit) else _card(served))


async def model_ready(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """GET /v1/models/{id}/ready: 200 while the model can take requests, else 503."""
    try:
        ready = models.find(visit.argument).model.ready
    except OfferedAsText:
        ready = True  # only a tensor model that takes requests is found
    if not ready:
        raise Unavailable(f"The model `{visit.argument}` cannot take requests now.", hint="its workers are starting")
    return json_response(visit, ModelReady(visit.argument))


def _anthropic(visit: Visit) -> bool:
    return bool(visit.request.header(b"anthropic-version"))


def _card(served: Served) -> ModelCard:
    model = served.model
    return ModelCard(
        id=served.name,
        created=model.loaded_s,
        root=model.name,
        parent=model.name if served.lora else None,
        max_model_len=model.fleet.info.context_tokens,
    )


def _info(served: Served) -> ModelInfo:
    model = served.model
    created = datetime.fromtimestamp(model.loaded_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    context_tokens = model.fleet.info.context_tokens
    return ModelInfo(served.name, created, served.name, context_tokens, context_tokens)


def _page(served: Sequence[Served], query: str) -> ModelPage:
    """Return the page that `limit`, `after_id` and `before_id` ask for."""
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    limit = asked.get("limit", str(_PAGE))
    if not limit.isascii() or not limit.isdecimal() or not 1 <= int(limit[:5]) <= _LONGEST_PAGE:
        raise FieldRefused("limit", f"limit must be an integer from 1 to {_LONGEST_PAGE}, got {limit!r}")
    names = [one.name for one in served]
    start, end = 0, len(served)
    if after := asked.get("after_id"):
        start = _place(names, after, "after_id") + 1
    if before := asked.get("before_id"):
        end = _place(names, before, "before_id")
    window = range(start, end)
    chosen = window[-int(limit) :] if before else window[: int(limit)]
    data = [_info(served[i]) for i in chosen]
    return ModelPage(data, len(chosen) < len(window), data[0].id if data else None, data[-1].id if data else None)


def _place(names: Sequence[str], name: str, field: str) -> int:
    if name not in names:
        raise FieldRefused(field, f"{field} names no model: {name!r}")
    return names.index(name)
