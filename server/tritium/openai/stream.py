"""An answer that streams: each step's token leaves as one server-sent event, in one write.

The fast path is a token that is whole characters, of a completion that nobody inspects: one lookup of its escaped
bytes between two constants. Everything else (split characters, stop strings, scores, ends) takes the slow path.

A client that reads slowly makes the events wait (`openai.outlet`), and what is under way leaves the fast path.
"""

from collections.abc import Callable, Sequence

import msgspec

from tritium.backends.engine import Delta, FinishReason, TokenLogprob
from tritium.core.errors import InferenceError
from tritium.llm.detokenize import escape
from tritium.llm.reading.piece import Content, OutputReader, Reasoning
from tritium.openai.answer import Answer, Choice, engine_failure
from tritium.openai.chunks import DONE, THOUGHT_TWICE, Chunks, error_event
from tritium.openai.details import EventDetails
from tritium.openai.errors import error_object
from tritium.openai.logprobs import chat_logprobs, completion_logprobs
from tritium.openai.order import Order, Prompt
from tritium.openai.outlet import Outlet
from tritium.openai.visit import Visit

_EVENTS_A_BREATH = 64
"""How many events the fast path writes before the client's pace is looked at."""


class StreamChoice(Choice):
    """One completion of a stream."""

    __slots__ = (
        "_after",
        "_answer",
        "_before",
        "_details",
        "_escaped",
        "_fast",
        "_offset",
        "_plain",
        "_unscored",
        "_write",
    )

    def __init__(self, answer: "StreamAnswer", prompt: Prompt, index: int) -> None:
        super().__init__(answer.order, prompt, index)
        self._answer = answer
        self._before = answer.chunks.before(index)
        self._after = answer.chunks.after
        self._offset = 0
        sampling, table = answer.order.sampling, answer.model.tokenizer.table
        self._escaped = table.escaped if table is not None else []
        self._plain = table is not None and not sampling.stop and sampling.logprobs is None and sampling.skip_special
        details = answer.order.details
        self._details = EventDetails(details, prompt.token_ids, chat=answer.chunks.chat) if details.in_events else None
        self._plain = self._plain and self._details is None and details.completion
        self._unscored: list[list[TokenLogprob]] = []
        self._fast = False
        self._write: Callable[[bytes], None] = _nowhere

    def on_delta(self, delta: Delta) -> None:
        """Send what one step added."""
        if self._fast and delta.finish is None and len(delta.token_ids) == 1:
            token_id = delta.token_ids[0]
            piece = self._escaped[token_id] if token_id < len(self._escaped) else None
            if piece:
                self._write(self._before + piece + self._after)
                text = self.text
                text.tokens += 1
                if not text.tokens % _EVENTS_A_BREATH:
                    self._answer.outlet.breathe()
                return
        self._turn(delta)

    def on_failure(self, error: InferenceError) -> None:
        """End the whole answer."""
        self._answer.fail(error)

    def opening(self) -> bytes:
        """Return the event that begins the completion; empty where the protocol has none."""
        event = self._answer.chunks.first(self.index)
        return self._detailed(event, ()) if event and self._details is not None else event

    def slow_down(self) -> None:
        """Leave the fast path until the next delta has gone the slow one."""
        self._fast = False

    def _turn(self, delta: Delta) -> None:
        if self.over:
            return
        answer, text = self._answer, self.text
        if delta.finish == FinishReason.ERROR:
            answer.fail(engine_failure(delta))
            return
        first = not text.tokens
        fresh, logprobs, events = text.push(delta), delta.logprobs, b""
        if not answer.order.details.completion:
            fresh, logprobs = "", None
        if first:
            self.account(delta)
            if self.prompt_scores is not None and answer.order.details.echo_scores:
                events = answer.chunks.scored(self.index, escape(self.prompt.echo), self._scores(self.prompt_scores))
            else:
                fresh = self.prompt.echo + fresh
        events += self._events(fresh, logprobs)
        if text.finish is not None:
            events += self._last_event()
        if self._details is not None:
            events = self._detailed(events, delta.token_ids)
        if text.finish is None:
            answer.send(events)
        else:
            answer.send(events, last=answer.ended(self))
        outlet = answer.outlet
        if outlet.stream is not None:
            self._write = outlet.stream.write
            self._fast = self._plain and outlet.flowing and not self.over and not text.holding
            if self.reader is not None:
                self._fast = self._fast and self._pass_by(self.reader)

    def _detailed(self, events: bytes, token_ids: Sequence[int]) -> bytes:
        """Put into events what the client wants told beside their text."""
        assert self._details is not None
        answer = self._answer
        usage = answer.usage() if answer.order.details.usage else None
        return self._details.add(events, token_ids, answer.chunks.tail, usage)

    def _last_event(self) -> bytes:
        answer, text = self._answer, self.text
        if not answer.order.details.completion:
            return answer.chunks.last(self.index, FinishReason.LENGTH, None)
        return answer.chunks.last(self.index, answer.order.chat_finish(self.finish), text.stop_reason)

    def _pass_by(self, reader: OutputReader) -> bool:
        """Tell whether the next token may pass by the reader, if it is a quiet one; what is written of it is set."""
        kind = reader.rests_in
        tokenizer, chunks, reading = self._answer.model.tokenizer, self._answer.chunks, self._answer.order.reading
        if kind is None or reading is None or tokenizer.table is None:
            return False
        if reader.settled:
            self._escaped = tokenizer.table.escaped
        else:
            self._escaped = tokenizer.quiet_pieces(reading.notable, THOUGHT_TWICE if kind is Reasoning else None)
        thinks = kind is Reasoning
        self._before = chunks.before_thought(self.index) if thinks else chunks.before(self.index)
        return True

    def _events(self, fresh: str, logprobs: list[list[TokenLogprob]] | None) -> bytes:
        scored = self._answer.order.sampling.logprobs is not None
        if self.reader is not None:
            return self._read_events(fresh, logprobs if scored else None)
        escaped = escape(fresh)
        if logprobs and scored:
            return self._answer.chunks.scored(self.index, escaped, self._scores(logprobs))
        return self._before + escaped + self._after if escaped else b""

    def _read_events(self, fresh: str, logprobs: list[list[TokenLogprob]] | None) -> bytes:
        """Write an event for every piece; the scores of tokens that are none yet go with the next one."""
        pieces = self.read(fresh)
        places = self._unscored + (logprobs or [])
        ends = self.text.finish is not None
        if not pieces and ends and places:
            pieces = [Content("")]
        self._unscored = [] if pieces else places
        write = self._answer.chunks.piece
        events = []
        for piece in pieces:
            events.append(write(self.index, piece, self._scores(places) if places else b"null"))
            places = []
        return b"".join(events)

    def _scores(self, places: Sequence[list[TokenLogprob] | None]) -> bytes:
        """Return the log probabilities of tokens as the protocol writes them."""
        answer = self._answer
        tokenizer, top = answer.model.tokenizer, answer.order.sampling.logprobs or 0
        as_ids = answer.order.details.tokens_as_ids
        if answer.chunks.chat:
            return msgspec.json.encode(chat_logprobs(tokenizer, [p for p in places if p], top, as_ids=as_ids))
        prompt = self.prompt.token_ids
        columns = completion_logprobs(tokenizer, places, top, self._offset, prompt=prompt, as_ids=as_ids)
        last = places[-1][0].token_id if places[-1] else prompt[len(places) - 1]
        self._offset = columns.text_offset[-1] + len(tokenizer.token_bytes(last).decode("utf-8", "replace"))
        return msgspec.json.encode(columns)


class StreamAnswer(Answer[StreamChoice]):
    """The choices of one stream."""

    def __init__(self, visit: Visit, order: Order, chunks: Chunks, *, with_usage: bool, stall_bytes: int) -> None:
        self.chunks = chunks
        self.outlet = Outlet(visit.request, stall_bytes, self.fail, self._slow_down)
        self._with_usage = with_usage
        super().__init__(visit, order)

    def choice(self, prompt: Prompt, index: int) -> StreamChoice:
        """Make the sink of one completion."""
        return StreamChoice(self, prompt, index)

    def send(self, events: bytes, *, last: bool = False) -> None:
        """Send events, the first of them after the stream's head, and the last before its end."""
        if not self.outlet.open:
            self.outlet.begin(self.visit.answer_headers(b"text/event-stream; charset=utf-8", self.route))
            events = b"".join([choice.opening() for choice in self.choices]) + events
            self.begun(None)
        if last:
            events += (self.chunks.usage(self.usage()) if self._with_usage else b"") + DONE
        self.outlet.send(events, last=last)

    def refuse(self, error: InferenceError) -> None:
        """End the stream with an error event in place of [DONE]."""
        self.outlet.end(error_event(error_object(error)))

    def _slow_down(self) -> None:
        for choice in self.choices:
            choice.slow_down()


def _nowhere(_event: bytes) -> None:
    raise AssertionError("an event was written before the stream began")
