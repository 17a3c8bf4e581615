"""POST /v1/responses, and what is done with responses that are kept: read, deleted, cancelled, continued.

request -> items, with those of the previous response -> chat -> order -> teller -> store
"""

import asyncio
from dataclasses import replace
from urllib.parse import parse_qs

import structlog

from tritium.core.errors import InferenceError, Internal
from tritium.llm.errors import FieldRefused
from tritium.llm.models import LanguageModels
from tritium.openai.errors import NothingKept
from tritium.openai.options import OpenAIOptions
from tritium.openai.responses_api.background import Background, DetachedRequest
from tritium.openai.responses_api.items import Item, listed, read_items
from tritium.openai.responses_api.opening import check, name_items, open_response
from tritium.openai.responses_api.schema import Deleted, ItemList, ResponsesRequest
from tritium.openai.responses_api.store import Kept, ResponseStore
from tritium.openai.responses_api.telling import ResponseTeller, fault_of
from tritium.openai.responses_api.window import order_within
from tritium.openai.schema import Reader
from tritium.openai.status import json_response
from tritium.openai.telling import ToldAnswer
from tritium.openai.visit import Visit
from tritium.wire.http import Response

log = structlog.get_logger()

_READER = Reader(ResponsesRequest)
_PAGE = 20
_LONGEST_PAGE = 100


class Responses:
    """The routes over one store."""

    def __init__(self, options: OpenAIOptions) -> None:
        self._store = ResponseStore(options.stored_responses, options.stored_bytes)
        self._background = Background()

    async def create(self, visit: Visit, models: LanguageModels, options: OpenAIOptions) -> Response | None:
        """POST /v1/responses."""
        call = visit.read(_READER)
        visit.take_id(call.request_id)
        check(call)
        owner = _owner(visit)
        before = self._before(call, owner)
        fresh = self._store.resolve(name_items(read_items(call.input)), owner)
        order = await order_within(call, [*before, *fresh], models, options.media)
        response = open_response(call, order)
        kept = Kept(response, before, fresh, owner)
        teller = ResponseTeller(
            response,
            order.served.model.tokenizer,
            order.sampling.logprobs,
            lambda _: self._store.put(kept) if response.store else None,
        )
        if not call.background:
            stream = bool(call.stream)
            return await ToldAnswer(visit, order, teller, stream=stream, stall_bytes=options.stall_bytes).run()
        response.status = "queued"
        self._store.put(kept)
        later = replace(visit, request=DetachedRequest(visit.request))
        visit.on_over = None
        queued = json_response(visit, response)
        answer = ToldAnswer(later, order, teller, stream=False, stall_bytes=0)
        self._background.start(response.id, self._go_on(answer, kept))
        return queued

    async def read(self, visit: Visit, _models: LanguageModels, _options: OpenAIOptions) -> Response:
        """GET /v1/responses/{id}."""
        if _asked(visit, "stream", "false").lower() in ("true", "1"):
            raise FieldRefused("stream", "a response that is kept is given whole: its stream cannot be resumed")
        return json_response(visit, self._store.get(visit.argument, _owner(visit)).response)

    async def delete(self, visit: Visit, _models: LanguageModels, _options: OpenAIOptions) -> Response:
        """DELETE /v1/responses/{id}."""
        self._store.remove(visit.argument, _owner(visit))
        await self._background.cancel(visit.argument)
        return json_response(visit, Deleted(visit.argument))

    async def cancel(self, visit: Visit, _models: LanguageModels, _options: OpenAIOptions) -> Response:
        """POST /v1/responses/{id}/cancel: end a background response; one that is over stays as it is."""
        response = self._store.get(visit.argument, _owner(visit)).response
        if not response.background:
            raise FieldRefused("response_id", "only a response that was created with background can be cancelled")
        await self._background.cancel(visit.argument)
        return json_response(visit, response)

    async def input_items(self, visit: Visit, _models: LanguageModels, _options: OpenAIOptions) -> Response:
        """GET /v1/responses/{id}/input_items: what its request added, latest first unless `order` is asc."""
        kept = self._store.get(visit.argument, _owner(visit))
        items = list(kept.input) if _asked(visit, "order", "desc") == "asc" else list(reversed(kept.input))
        if after := _asked(visit, "after", ""):
            place = next((i for i, item in enumerate(items) if item.id == after), None)
            if place is None:
                raise FieldRefused("after", f"after names no item of this response: {after!r}")
            items = items[place + 1 :]
        limit = _asked(visit, "limit", str(_PAGE))
        if not limit.isascii() or not limit.isdecimal() or not 1 <= int(limit[:5]) <= _LONGEST_PAGE:
            raise FieldRefused("limit", f"limit must be an integer from 1 to {_LONGEST_PAGE}, got {limit!r}")
        page = [listed(item) for item in items[: int(limit)]]
        first, last = (page[0].id, page[-1].id) if page else (None, None)
        return json_response(visit, ItemList(page, len(page) < len(items), first, last))

    def _before(self, call: ResponsesRequest, owner: str) -> list[Item]:
        if call.previous_response_id is None:
            return []
        try:
            kept = self._store.get(call.previous_response_id, owner)
        except NothingKept as error:
            raise FieldRefused(
                "previous_response_id",
                f"Previous response with id '{call.previous_response_id}' not found.",
                error.hint,
                code="previous_response_not_found",
            ) from None
        if kept.response.status in ("queued", "in_progress"):
            raise FieldRefused(
                "previous_response_id",
                f"Response '{call.previous_response_id}' is {kept.response.status}: it cannot be continued yet",
            )
        return kept.conversation

    async def _go_on(self, answer: ToldAnswer, kept: Kept) -> None:
        """Answer in the background; whatever happens, the response says how it ended."""
        response = kept.response
        response.status = "in_progress"
        try:
            await answer.run()
        except asyncio.CancelledError:
            response.status = "cancelled"
            raise
        except InferenceError as error:
            response.status, response.error = "failed", fault_of(error)
        except Exception:
            log.exception("background_response_failed", response=response.id)
            response.status, response.error = "failed", fault_of(Internal("the server failed; its log has the reason"))
        finally:
            answer.visit.end()


def _owner(visit: Visit) -> str:
    """Return whose visit it is, where keys tell clients apart."""
    return visit.account.entry.sha256 if visit.account is not None else ""


def _asked(visit: Visit, name: str, default: str) -> str:
    """Return a parameter of the request's query."""
    return parse_qs(visit.request.query).get(name, [default])[-1]
