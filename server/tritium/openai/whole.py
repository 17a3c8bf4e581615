"""An answer that is sent whole, once every completion is over."""

import msgspec

from tritium.backends.engine import Delta, FinishReason, TokenLogprob
from tritium.core.errors import InferenceError
from tritium.llm.reading.parts import ReadParts
from tritium.openai.answer import Answer, Choice, Order, Prompt, Visit, engine_failure
from tritium.openai.logprobs import chat_logprobs, completion_logprobs
from tritium.openai.responses import (
    ChatChoice,
    ChatCompletion,
    ChatMessage,
    Completion,
    CompletionChoice,
    FunctionCall,
    MessageToolCall,
)
from tritium.wire.http import Response


class WholeChoice(Choice):
    """One completion, kept until it is over."""

    __slots__ = ("_answer", "_parts", "logprobs", "read_parts")

    def __init__(self, answer: "WholeAnswer", prompt: Prompt, index: int) -> None:
        super().__init__(answer.order, prompt, index)
        self._answer = answer
        self._parts = [prompt.echo]
        self.logprobs: list[list[TokenLogprob]] = []
        self.read_parts = ReadParts()
        """What the reader found, where there is one."""

    def on_delta(self, delta: Delta) -> None:
        """Keep what one step added."""
        if self.over:
            return
        if delta.finish == FinishReason.ERROR:
            self._answer.fail(engine_failure(delta))
            return
        if delta.cached_tokens is not None:
            self.cached_tokens = delta.cached_tokens
        fresh = self.text.push(delta)
        if self.reader is None:
            self._parts.append(fresh)
        else:
            self.read_parts.add(self.read(fresh))
        if delta.logprobs:
            self.logprobs += delta.logprobs
        if self.text.finish is not None:
            self._answer.finished(self)

    def on_failure(self, error: InferenceError) -> None:
        """End the whole answer."""
        self._answer.fail(error)

    @property
    def content(self) -> str:
        """Return the text so far."""
        return "".join(self._parts)


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
        if self.ended(choice):
            body = msgspec.json.encode(self._chat_completion() if self._chat else self._completion())
            self.begun(Response(200, self.visit.answer_headers(b"application/json", self.route), [body]))

    def refuse(self, error: InferenceError) -> None:
        """Do nothing: a whole answer fails before it begins."""

    def _chat_completion(self) -> ChatCompletion:
        tokenizer, top = self.model.tokenizer, self.order.sampling.logprobs
        choices = [
            ChatChoice(
                index=choice.index,
                message=_message(choice, functions=self.order.functions),
                finish_reason=self.order.chat_finish(choice.finish),
                logprobs=None if top is None else chat_logprobs(tokenizer, choice.logprobs, top),
                stop_reason=choice.text.stop_reason,
            )
            for choice in self.choices
        ]
        return ChatCompletion(self._id, self._created, self.order.served.name, choices, self.usage())

    def _completion(self) -> Completion:
        tokenizer, top = self.model.tokenizer, self.order.sampling.logprobs
        choices = [
            CompletionChoice(
                index=choice.index,
                text=choice.content,
                finish_reason=choice.text.finish or "",
                logprobs=None if top is None else completion_logprobs(tokenizer, choice.logprobs, top, 0),
                stop_reason=choice.text.stop_reason,
            )
            for choice in self.choices
        ]
        return Completion(self._id, self._created, self.order.served.name, choices, self.usage())


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
