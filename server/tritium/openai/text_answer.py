"""Completions and chats of tensor models that are offered as language models: `llm.text_models` says how.

    fields -> prompt, or conversation -> one request a prompt -> pieces of text -> whole answer, or events

There are no tokens here: what a stream sends is what the model answers, piece by piece, and usage is counted only
where the model's configuration names a tokenizer.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

import structlog

from tritium.core.errors import InferenceError, Internal
from tritium.core.request import InferRequest
from tritium.llm.detokenize import escape
from tritium.llm.errors import FieldRefused
from tritium.llm.template import Message
from tritium.llm.text_models.mapping import SAMPLING
from tritium.llm.text_models.offered import OfferedModel, TextPiece
from tritium.openai.chunks import DONE, Chunks, chat_chunks, completion_chunks, error_event
from tritium.openai.errors import error_object
from tritium.openai.options import OpenAIOptions
from tritium.openai.order import MOST_COMPLETIONS
from tritium.openai.outlet import Outlet
from tritium.openai.responses import (
    ChatChoice,
    ChatCompletion,
    ChatMessage,
    Completion,
    CompletionChoice,
    PromptTokensDetails,
    Usage,
)
from tritium.openai.schema import ChatRequest, CompletionRequest, SamplingRequest
from tritium.openai.status import json_response
from tritium.openai.visit import Visit
from tritium.wire.http import Response

log = structlog.get_logger("tritium")

T = TypeVar("T")

_WITHOUT_EFFECT = frozenset(
    {
        "model",
        "prompt",
        "messages",
        "stream",
        "stream_options",
        "echo",
        "store",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "request_id",
        "max_completion_tokens",
    }
)
"""Fields that are no matter of the model's, or are dealt with here."""


async def text_completion(
    visit: Visit, call: CompletionRequest, model: OfferedModel, options: OpenAIOptions
) -> Response | None:
    """Answer POST /v1/completions by a tensor model."""
    given = _given(call, model)
    asked = [call.prompt] if isinstance(call.prompt, str) else call.prompt
    prompts = [prompt for prompt in asked if isinstance(prompt, str)]
    if len(prompts) != len(asked) or not prompts:
        raise FieldRefused("prompt", f"the model `{model.name}` takes text: prompt must be a string, or a list of them")
    if len(prompts) > MOST_COMPLETIONS:
        raise FieldRefused("prompt", f"prompt holds {len(prompts)} texts, more than {MOST_COMPLETIONS}")
    answer_id, created = f"cmpl-{visit.id}", int(time.time())
    answer = _TextAnswer(visit, model, list(prompts), given, echo=bool(call.echo))
    if call.stream:
        chunks = completion_chunks(answer_id, created, call.model, with_usage=_with_usage(call))
        await answer.stream(chunks, options, with_usage=_with_usage(call))
        return None
    texts = await answer.whole()
    choices = [CompletionChoice(index, text, finish) for index, (text, finish) in enumerate(texts)]
    return json_response(visit, Completion(answer_id, created, call.model, choices, await answer.usage()))


async def text_chat(visit: Visit, call: ChatRequest, model: OfferedModel, options: OpenAIOptions) -> Response | None:
    """Answer POST /v1/chat/completions by a tensor model."""
    given = _given(call, model)
    prompt = await model.render(call.messages)
    answer_id, created = f"chatcmpl-{visit.id}", int(time.time())
    answer = _TextAnswer(visit, model, [prompt], given)
    if call.stream:
        chunks = chat_chunks(answer_id, created, call.model, with_usage=_with_usage(call))
        await answer.stream(chunks, options, with_usage=_with_usage(call))
        return None
    [(text, finish)] = await answer.whole()
    choices = [ChatChoice(0, ChatMessage(text), finish)]
    return json_response(visit, ChatCompletion(answer_id, created, call.model, choices, await answer.usage()))


def _given(call: SamplingRequest, model: OfferedModel) -> dict[str, Any]:
    """Return the fields of a request that are for the model.

    Raises:
        FieldRefused: one asks for what the model does not take.
    """
    fields = {
        name: value
        for name in call.__struct_fields__
        if name not in _WITHOUT_EFFECT and (value := getattr(call, name)) is not None
    }
    longest = getattr(call, "max_completion_tokens", None)
    if longest is not None:
        fields["max_tokens"] = longest
    if fields.get("n", 1) != 1:
        raise FieldRefused("n", f"the model `{model.name}` gives one answer: n must be 1")
    # What says no more than what holds anyway asks for nothing.
    usual = {"n": 1, "best_of": 1, "logprobs": False, "tool_choice": "none"}
    fields = {name: value for name, value in fields.items() if name not in usual or value != usual[name]}
    model.check_fields(fields)
    return {name: value for name, value in fields.items() if name in SAMPLING}


def _with_usage(call: SamplingRequest) -> bool:
    return call.stream_options is not None and call.stream_options.include_usage


class _TextAnswer:
    """The answers to the prompts of one HTTP request."""

    def __init__(
        self,
        visit: Visit,
        model: OfferedModel,
        prompts: Sequence[str | list[Message]],
        given: dict[str, Any],
        *,
        echo: bool = False,
    ) -> None:
        self._visit = visit
        self._model = model
        self._prompts = prompts
        self._given = given
        stop = given.get("stop")
        self._stops = [stop] if isinstance(stop, str) else list(stop or ())
        self._echo = echo
        self._requests: list[InferRequest] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._failure: InferenceError | None = None
        self._said: list[list[str]] = []
        """The pieces of each answer so far."""
        self._begun: set[int] = set()
        visit.request.on_disconnect(self.cancel)
        if visit.deadline is not None:
            visit.deadline.give_up = self.fail

    def cancel(self) -> None:
        """Want no more of any answer."""
        for request in self._requests:
            request.cancel()

    def fail(self, error: InferenceError) -> None:
        """End every answer; the client is told this error."""
        self._failure = self._failure or error
        self.cancel()
        for task in self._tasks:
            task.cancel()

    async def whole(self) -> list[tuple[str, str]]:
        """Return text and finish reason of each prompt's answer.

        Raises:
            InferenceError: one of them failed.
        """
        return await self._all([self._collect(i, pieces) for i, pieces in enumerate(self._begin(stream=False))])

    async def stream(self, chunks: Chunks, options: OpenAIOptions, *, with_usage: bool) -> None:
        """Send the answers as events; what fails before the first one is raised, later it is the last event.

        Raises:
            InferenceError: nothing was sent yet.
        """
        outlet = Outlet(self._visit.request, options.stall_bytes, self.fail)
        answers = self._begin(stream=True)
        try:
            await self._all([self._tell(index, pieces, chunks, outlet) for index, pieces in enumerate(answers)])
        except Exception as error:
            if not outlet.open:
                raise
            if not isinstance(error, InferenceError):
                log.exception("text_model_failed", model=self._model.name)
                error = Internal("the server failed; its log has the reason")
            outlet.end(error_event(error_object(error)))
        else:
            usage = await self.usage() if with_usage or self._visit.account is not None else None
            counted = chunks.usage(usage) if with_usage and usage is not None else b""
            outlet.send(counted + DONE, last=True)

    async def _all(self, work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Do the work of every prompt; what fails first ends the rest of it.

        Raises:
            InferenceError: one of them failed, or the request was given up.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one) for one in work]
                self._tasks += tasks
        except BaseExceptionGroup as failures:
            self.cancel()
            raise self._failure or failures.exceptions[0] from None
        finally:
            self._visit.end()
        if self._failure is not None:
            raise self._failure
        return [task.result() for task in tasks]

    def _begin(self, *, stream: bool) -> list[AsyncIterator[TextPiece]]:
        self._said = [[] for _ in self._prompts]
        self._requests = [
            self._model.request(prompt, self._given, stream=stream, request_id=self._visit.id)
            for prompt in self._prompts
        ]
        return [self._model.run(request, self._stops) for request in self._requests]

    def _before(self, index: int) -> str:
        prompt = self._prompts[index]
        return prompt if self._echo and isinstance(prompt, str) else ""

    async def _collect(self, index: int, pieces: AsyncIterator[TextPiece]) -> tuple[str, str]:
        finish = "stop"
        async for piece in pieces:
            self._said[index].append(piece.text)
            finish = piece.finish or finish
        return self._before(index) + "".join(self._said[index]), finish

    async def _tell(self, index: int, pieces: AsyncIterator[TextPiece], chunks: Chunks, outlet: Outlet) -> None:
        before = self._before(index)
        async for piece in pieces:
            events = b""
            if not outlet.open:
                outlet.begin(self._visit.answer_headers(b"text/event-stream; charset=utf-8", None))
            if index not in self._begun:
                self._begun.add(index)
                events = chunks.first(index)
            text, before = before + piece.text, ""
            if text:
                events += chunks.before(index) + escape(text) + chunks.after
            if piece.finish:
                events += chunks.last(index, piece.finish, None)
            self._said[index].append(piece.text)
            outlet.send(events)

    async def usage(self) -> Usage | None:
        """Count the tokens of prompts and answers, once, and enter them into the books of whoever asked.

        None where no tokenizer can tell, or where the model takes conversations as they are.
        """
        texts = [prompt for prompt in self._prompts if isinstance(prompt, str)]
        said = ["".join(pieces) for pieces in self._said]
        asked, answered = await self._model.count(texts), await self._model.count(said)
        if asked is None or answered is None or len(texts) < len(self._prompts):
            return None
        self._visit.spend(asked, answered)
        return Usage(asked, answered, asked + answered, PromptTokensDetails())
