"""A completion told as a response: items of reasoning, messages and function calls, opened and closed in turn.

    response.created, response.in_progress,
      (output_item.added, [content_part.added], deltas ..., done, [content_part.done], output_item.done) ...,
    response.completed | response.incomplete | response.failed

Every event carries the number of its place in the stream.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from tritium.backends.engine import TokenLogprob
from tritium.core.errors import InferenceError
from tritium.llm.reading.piece import Content, Piece, Reasoning, ToolArguments, ToolCall
from tritium.llm.tokenizer import Tokenizer
from tritium.openai.errors import error_object
from tritium.openai.logprobs import chat_logprobs
from tritium.openai.responses import ChatLogprob, Usage
from tritium.openai.responses_api.items import (
    FunctionCallItem,
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
)
from tritium.openai.responses_api.schema import (
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    ResponseFault,
    ResponseObject,
    ResponseUsage,
)
from tritium.openai.telling import Ending

_JSON = msgspec.json.Encoder()


class ResponseTeller:
    """Writes one response; `on_over` is handed it when it has ended, well or not."""

    def __init__(
        self,
        response: ResponseObject,
        tokenizer: Tokenizer,
        top_logprobs: int | None,
        on_over: Callable[[ResponseObject], None],
    ) -> None:
        self.response = response
        self._tokenizer = tokenizer
        self._top_logprobs = top_logprobs
        self._on_over = on_over
        self._number = 0
        self._open: OutputItem | None = None
        self._said: list[str] = []
        self._scores: list[ChatLogprob] = []

    def begin(self, _usage: Usage) -> bytes:
        """Start the response."""
        self.response.status = "in_progress"
        return self._whole("response.created") + self._whole("response.in_progress")

    def take(self, pieces: Sequence[Piece], scores: Sequence[Sequence[TokenLogprob]]) -> bytes:
        """Tell what came, in the item that it belongs to; scores are told with the text."""
        fresh: list[ChatLogprob] = []
        if self._top_logprobs is not None and scores:
            fresh = chat_logprobs(self._tokenizer, scores, self._top_logprobs).content or []
        events = b""
        for piece in pieces:
            events += self._piece(piece, fresh)
            if isinstance(piece, Content):
                fresh = []
        return events

    def end(self, ending: Ending) -> bytes:
        """Close the last item and say how the response ended."""
        cut = ending.finish == "length"
        events = self._close("incomplete" if cut else "completed")
        response = self.response
        response.usage = _usage(ending)
        response.status = "incomplete" if cut else "completed"
        if cut:
            response.incomplete_details = IncompleteDetails("max_output_tokens")
        else:
            response.completed_at = int(time.time())
        self._on_over(response)
        return events + self._whole(f"response.{response.status}")

    def fail(self, error: InferenceError) -> bytes:
        """Say that the response ends here, and why."""
        self._close("incomplete")
        self.response.status = "failed"
        self.response.error = fault_of(error)
        self._on_over(self.response)
        return self._whole("response.failed")

    def body(self) -> ResponseObject:
        """Return the whole response."""
        return self.response

    def _piece(self, piece: Piece, scores: list[ChatLogprob]) -> bytes:
        match piece:
            case Content(text):
                opened = b"" if isinstance(self._open, MessageItem) else self._open_message()
                self._said.append(text)
                self._scores += scores
                return opened + self._part_event("output_text.delta", delta=text, logprobs=scores)
            case Reasoning(text):
                opened = b"" if isinstance(self._open, ReasoningItem) else self._open_reasoning()
                self._said.append(text)
                return opened + self._part_event("reasoning_text.delta", delta=text)
            case ToolCall(_, call_id, name):
                closed = self._close("completed")
                item = FunctionCallItem(name, call_id, "", self._id("fc"), "in_progress")
                return closed + self._open_item(item)
            case ToolArguments(_, fragment):
                self._said.append(fragment)
                return self._item_event("function_call_arguments.delta", delta=fragment)

    def _open_message(self) -> bytes:
        item = MessageItem("assistant", [], self._id("msg"), "in_progress")
        return self._close("completed") + self._open_item(item) + self._part_event("content_part.added", OutputText(""))

    def _open_reasoning(self) -> bytes:
        item = ReasoningItem(self._id("rs"), [], [], status="in_progress")
        opened = self._close("completed") + self._open_item(item)
        return opened + self._part_event("content_part.added", ReasoningText(""))

    def _open_item(self, item: OutputItem) -> bytes:
        self._open = item
        self.response.output.append(item)
        return self._event("output_item.added", output_index=len(self.response.output) - 1, item=item)

    def _close(self, status: Literal["completed", "incomplete"]) -> bytes:
        """Close the open item; what it holds is told once more, whole."""
        item, said, scores = self._open, "".join(self._said), self._scores
        if item is None:
            return b""
        events = b""
        match item:
            case MessageItem():
                text = OutputText(said, logprobs=scores)
                item.content = [text]
                events = self._part_event("output_text.done", text=said, logprobs=scores)
                events += self._part_event("content_part.done", text)
            case ReasoningItem():
                thought = ReasoningText(said)
                item.content = [thought]
                events = self._part_event("reasoning_text.done", text=said)
                events += self._part_event("content_part.done", thought)
            case FunctionCallItem():
                item.arguments = said
                events = self._item_event("function_call_arguments.done", name=item.name, arguments=said)
        item.status = status
        self._open, self._said, self._scores = None, [], []
        return events + self._event("output_item.done", output_index=len(self.response.output) - 1, item=item)

    def _part_event(self, kind: str, part: OutputText | ReasoningText | None = None, **fields: Any) -> bytes:
        if part is not None:
            fields["part"] = part
        return self._item_event(kind, content_index=0, **fields)

    def _item_event(self, kind: str, **fields: Any) -> bytes:
        assert self._open is not None
        return self._event(kind, item_id=self._open.id, output_index=len(self.response.output) - 1, **fields)

    def _whole(self, kind: str) -> bytes:
        return self._event(kind.removeprefix("response."), response=self.response)

    def _event(self, kind: str, **fields: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        kind = f"response.{kind}"
        data = _JSON.encode({"type": kind, "sequence_number": number, **fields})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def _id(self, prefix: str) -> str:
        """Return an item's id: the response's own, with its place."""
        return f"{prefix}_{self.response.id.removeprefix('resp_')}{len(self.response.output)}"


def fault_of(error: InferenceError) -> ResponseFault:
    """Return why a response failed, by OpenAI's codes."""
    body = error_object(error).error
    return ResponseFault("rate_limit_exceeded" if body.type == "rate_limit_error" else "server_error", body.message)


def _usage(ending: Ending) -> ResponseUsage:
    usage = ending.usage
    return ResponseUsage(
        usage.prompt_tokens,
        InputTokensDetails(usage.prompt_tokens_details.cached_tokens),
        usage.completion_tokens,
        OutputTokensDetails(ending.reasoning_tokens),
        usage.total_tokens,
    )
