"""An answer that is sent whole, once every completion is over."""

import asyncio
from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from tritium.backends.engine import Delta, FinishReason, TokenLogprob
from tritium.core.errors import InferenceError
from tritium.llm.reading.parts import ReadParts
from tritium.openai.answer import Answer, Choice, engine_failure
from tritium.openai.details import prompt_scores
from tritium.openai.logprobs import chat_logprobs, completion_logprobs
from tritium.openai.order import Order, Prompt
from tritium.openai.responses import (
    ChatChoice,
    ChatCompletion,
    ChatLogprobs,
    ChatMessage,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    FunctionCall,
    MessageToolCall,
)
from tritium.openai.visit import Visit
from tritium.wire.http import Response

_SHORT_PLACES = 512
"""Up to so many scored tokens an answer is written on the event loop (a few ms); a longer one in a thread."""


class WholeChoice(Choice):
    """One completion, kept until it is over."""

    __slots__ = ("_answer", "_parts", "logprobs", "read_parts", "token_ids")

    def __init__(self, answer: "WholeAnswer", prompt: Prompt, index: int) -> None:
        super().__init__(answer.order, prompt, index)
        self._answer = answer
        self._parts = [prompt.echo]
        self.logprobs: list[list[TokenLogprob]] = []
        self.token_ids: list[int] = []
        self.read_parts = ReadParts()
        """What the reader found, where there is one."""

    def on_delta(self, delta: Delta) -> None:
        """Keep what one step added."""
        if self.over:
            return
        if delta.finish == FinishReason.ERROR:
            self._answer.fail(engine_failure(delta))
            return
        self.account(delta)
        fresh = self.text.push(delta)
        if self.reader is None:
            self._parts.append(fresh)
        else:
            self.read_parts.add(self.read(fresh))
        if delta.logprobs:
            self.logprobs += delta.logprobs
        if self._answer.order.details.token_ids:
            self.token_ids += delta.token_ids
        if self.text.finish is not None:
            self._answer.finished(self)

    def on_failure(self, error: InferenceError) -> None:
        """End the whole answer."""
        self._answer.fail(error)

    @property
    def content(self) -> str:
        """Return the text so far."""
        return "".join(self._parts if self._answer.order.details.completion else self._parts[:1])

    @property
    def likelihood(self) -> float:
        """Return the log probability of the whole completion."""
        return sum(entries[0].logprob for entries in self.logprobs)


class WholeAnswer(Answer[WholeChoice]):
    """The choices of one answer; `chat` tells which of the two shapes it has."""

    def __init__(self, visit: Visit, order: Order, answer_id: str, created: int, *, chat: bool) -> None:
        self._id = answer_id
        self._created = created
        self._chat = chat
        super().__init__(visit, order)

    def choice(self, prompt: Prompt, index: int) -> WholeChoice:
        """Make the sink of one completion."""
        return WholeChoice(self, prompt, index)

    def finished(self, choice: WholeChoice) -> None:
        """Answer once the last choice is over."""
        if not self.ended(choice):
            return
        if sum(len(choice.logprobs) + len(choice.prompt_scores or ()) for choice in self.choices) <= _SHORT_PLACES:
            self._send(self._body())
        else:
            asyncio.get_running_loop().run_in_executor(None, self._body).add_done_callback(self._written)

    def _body(self) -> bytes:
        return msgspec.json.encode(self._chat_completion() if self._chat else self._completion())

    def _written(self, body: asyncio.Future[bytes]) -> None:
        if (error := body.exception()) is None:
            self._send(body.result())
        elif not self._outcome.done():
            self._outcome.set_exception(error)

    def _send(self, body: bytes) -> None:
        self.begun(Response(200, self.visit.answer_headers(b"application/json", self.route), [body]))

    def refuse(self, error: InferenceError) -> None:
        """Do nothing: a whole answer fails before it begins."""

    def _chat_completion(self) -> ChatCompletion:
        order, first = self.order, self.choices[0]
        details = order.details
        completion = ChatCompletion(
            self._id,
            self._created,
            order.served.name,
            [
                ChatChoice(
                    index=choice.index,
                    message=_message(choice, functions=order.functions),
                    finish_reason=order.chat_finish(choice.finish),
                    logprobs=self._chat_scores(choice),
                    stop_reason=choice.text.stop_reason,
                    token_ids=choice.token_ids if details.token_ids else UNSET,
                )
                for choice in self.choices
            ],
            self.usage(),
        )
        if details.token_ids:
            completion.prompt_token_ids = first.prompt.token_ids
        if details.prompt_scores:
            completion.prompt_logprobs = prompt_scores(self.model.tokenizer, first.prompt_scores or [])
        return completion

    def _completion(self) -> Completion:
        details, tokenizer = self.order.details, self.model.tokenizer
        choices = [
            CompletionChoice(
                index=index,
                text=choice.content,
                finish_reason=choice.text.finish or "" if details.completion else FinishReason.LENGTH,
                logprobs=self._scores(choice),
                stop_reason=choice.text.stop_reason,
                token_ids=choice.token_ids if details.token_ids else UNSET,
                prompt_token_ids=choice.prompt.token_ids if details.token_ids else UNSET,
                prompt_logprobs=prompt_scores(tokenizer, choice.prompt_scores or [])
                if details.prompt_scores
                else UNSET,
            )
            for index, choice in enumerate(self._given())
        ]
        return Completion(self._id, self._created, self.order.served.name, choices, self.usage())

    def _given(self) -> Sequence[WholeChoice]:
        """Return the choices that the client gets: of each prompt's the best, where only some are wanted."""
        best, n = self.order.details.best, self.order.sampling.n
        if not best:
            return self.choices
        groups = (self.choices[at : at + n] for at in range(0, len(self.choices), n))
        return [c for group in groups for c in sorted(group, key=lambda c: c.likelihood, reverse=True)[:best]]

    def _chat_scores(self, choice: WholeChoice) -> ChatLogprobs | None:
        top = self.order.sampling.logprobs
        if top is None:
            return None
        as_ids = self.order.details.tokens_as_ids
        return chat_logprobs(self.model.tokenizer, choice.logprobs, top, as_ids=as_ids)

    def _scores(self, choice: WholeChoice) -> CompletionLogprobs | None:
        top, details = self.order.sampling.logprobs, self.order.details
        if top is None:
            return None
        echoed = choice.prompt_scores or [] if details.echo_scores else []
        places = [*echoed, *(choice.logprobs if details.completion else ())]
        prompt = choice.prompt.token_ids
        as_ids = details.tokens_as_ids
        return completion_logprobs(self.model.tokenizer, places, top, 0, prompt=prompt, as_ids=as_ids)


def _message(choice: WholeChoice, *, functions: bool) -> ChatMessage:
    if choice.reader is None:
        return ChatMessage(choice.content)
    parts = choice.read_parts
    # OpenAI: an answer that consists of calls has no content, rather than an empty one.
    message = ChatMessage(parts.content if parts.content or not (parts.calls or parts.reasoning) else None)
    if parts.reasoning:
        message.reasoning_content = message.reasoning = parts.reasoning
    calls = [MessageToolCall(call.id, FunctionCall(call.name, call.arguments)) for call in parts.calls]
    if calls and functions:
        message.function_call = calls[0].function
    elif calls:
        message.tool_calls = calls
    return message
