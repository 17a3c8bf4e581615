"""One completion told in a protocol of its own: Anthropic's messages and OpenAI's responses are written by tellers.

    delta -> text -> pieces -> Teller -> events, or one body at the end

A teller builds the same answer either way; whoever streams sends what it returns, whoever does not throws that away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from tritium.backends.engine import Delta, FinishReason, TokenLogprob
from tritium.core.errors import InferenceError
from tritium.llm.reading.piece import Content, Piece, Reasoning
from tritium.llm.reading.pieces import add_joined
from tritium.openai.answer import Answer, Choice, engine_failure
from tritium.openai.order import Order, Prompt
from tritium.openai.outlet import Outlet
from tritium.openai.responses import Usage
from tritium.openai.visit import Visit
from tritium.wire.http import Response


@dataclass(frozen=True, slots=True)
class Ending:
    """How a completion ended: OpenAI's finish reason, and the stop string or token id behind it.

    `reasoning_tokens` are those that came before the first piece that is no reasoning.
    """

    finish: str
    stop_reason: str | int | None
    usage: Usage
    reasoning_tokens: int = 0


class Teller(Protocol):
    """Writes one completion; every method but `body` returns the events to send."""

    def begin(self, usage: Usage) -> bytes:
        """Begin the answer; `usage` has the prompt's tokens."""
        ...

    def take(self, pieces: Sequence[Piece], scores: Sequence[Sequence[TokenLogprob]]) -> bytes:
        """Tell what came; `scores` are those of the tokens since the last call, where they were asked for."""
        ...

    def end(self, ending: Ending) -> bytes:
        """End the answer."""
        ...

    def fail(self, error: InferenceError) -> bytes:
        """End an answer that has begun and cannot go on."""
        ...

    def body(self) -> msgspec.Struct:
        """Return the whole answer, once it has ended."""
        ...


class ToldChoice(Choice):
    """The completion: what comes is read and handed to the teller, at once or at the end."""

    __slots__ = ("_answer", "_scores", "_thinking", "pieces", "reasoning_tokens")

    def __init__(self, answer: "ToldAnswer", prompt: Prompt, index: int) -> None:
        super().__init__(answer.order, prompt, index)
        self._answer = answer
        self._scores: list[list[TokenLogprob]] = []
        self._thinking = self.reader is not None
        self.reasoning_tokens = 0
        self.pieces: list[Piece] = []

    def on_delta(self, delta: Delta) -> None:
        """Take what one step added."""
        if self.over:
            return
        if delta.finish == FinishReason.ERROR:
            self._answer.fail(engine_failure(delta))
            return
        self.account(delta)
        fresh = self.text.push(delta)
        pieces = self.read(fresh) if self.reader is not None else [Content(fresh)] if fresh else []
        if self._thinking and pieces:
            self._count_thought(pieces, len(delta.token_ids))
        self.pieces += pieces
        if delta.logprobs and self._answer.order.sampling.logprobs is not None:
            self._scores += delta.logprobs
        self._answer.told(self)

    def on_failure(self, error: InferenceError) -> None:
        """End the answer."""
        self._answer.fail(error)

    def _count_thought(self, pieces: Sequence[Piece], fresh_tokens: int) -> None:
        """Note how many tokens were reasoning, up to the step that brings anything else."""
        if type(pieces[0]) is Reasoning:
            self.reasoning_tokens = self.text.tokens
        elif self.reasoning_tokens:
            self.reasoning_tokens = self.text.tokens - fresh_tokens
        self._thinking = all(type(piece) is Reasoning for piece in pieces)

    def hand_over(self, teller: Teller) -> bytes:
        """Have the teller tell what came since the last time."""
        pieces, scores = self.pieces, self._scores
        self.pieces, self._scores = [], []
        return teller.take(pieces, scores)


class ToldAnswer(Answer[ToldChoice]):
    """The answer of one completion; without `stream` it is sent whole, when the completion is over."""

    def __init__(self, visit: Visit, order: Order, teller: Teller, *, stream: bool, stall_bytes: int) -> None:
        self._teller = teller
        self._outlet = Outlet(visit.request, stall_bytes, self.fail) if stream else None
        super().__init__(visit, order)

    def choice(self, prompt: Prompt, index: int) -> ToldChoice:
        """Make the sink of the completion."""
        return ToldChoice(self, prompt, index)

    def told(self, choice: ToldChoice) -> None:
        """Send what came, or answer once all of it is there."""
        over = choice.text.finish is not None
        if self._outlet is not None:
            self._send(self._outlet, choice, over=over)
        elif over:
            self.ended(choice)
            self._teller.begin(self.usage())
            choice.pieces = joined(choice.pieces)
            choice.hand_over(self._teller)
            self._teller.end(self._ending(choice))
            body = msgspec.json.encode(self._teller.body())
            self.begun(Response(200, self.visit.answer_headers(b"application/json", self.route), [body]))

    def refuse(self, error: InferenceError) -> None:
        """End the stream with an error event; a whole answer fails before it begins."""
        if self._outlet is not None and self._outlet.open:
            self._outlet.end(self._teller.fail(error))

    def _send(self, outlet: Outlet, choice: ToldChoice, *, over: bool) -> None:
        events = b""
        if not outlet.open:
            outlet.begin(self.visit.answer_headers(b"text/event-stream; charset=utf-8", self.route))
            events = self._teller.begin(self.usage())
            self.begun(None)
        if choice.pieces:
            events += choice.hand_over(self._teller)
        if over:
            self.ended(choice)
            outlet.send(events + self._teller.end(self._ending(choice)), last=True)
        elif events:
            outlet.send(events)

    def _ending(self, choice: ToldChoice) -> Ending:
        return Ending(choice.finish, choice.text.stop_reason, self.usage(), choice.reasoning_tokens)


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces with neighbours of a kind joined."""
    whole: list[Piece] = []
    for piece in pieces:
        add_joined(whole, piece)
    return whole
