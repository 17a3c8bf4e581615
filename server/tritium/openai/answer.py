"""All completions of one request on their way to one client.

    WAITING --first token--> FLOWING --last token of the last choice--> OVER
       |                        |
       +------ failure, client gone, cancelled -------> OVER

`StreamAnswer` and `WholeAnswer` say what a client is sent; this file starts the generations, ends them together, and
counts. A failure while WAITING is an HTTP error; afterwards it is up to the answer.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

from tritium.backends.engine import Delta, FinishReason, TokenLogprob
from tritium.cluster.fleet import Generation, GenerationRequest, RouteReport
from tritium.core.errors import Cancelled, InferenceError, ModelFailed, SamplingRefused
from tritium.llm.errors import FieldRefused
from tritium.llm.reading.piece import Piece, ToolCall
from tritium.llm.sampling import budget
from tritium.llm.text import CompletionText
from tritium.openai.order import TOOL_CALLS, Order, Prompt
from tritium.openai.responses import PromptTokensDetails, Usage
from tritium.openai.visit import Visit
from tritium.openai.weight import check_weight
from tritium.wire.http import Response

_NONE_SHOWN: frozenset[int] = frozenset()


class Choice(ABC):
    """One completion: the sink of one generation."""

    __slots__ = (
        "_called",
        "cached_tokens",
        "generation",
        "index",
        "over",
        "prompt",
        "prompt_scores",
        "prompt_tokens",
        "reader",
        "text",
    )

    def __init__(self, order: Order, prompt: Prompt, index: int) -> None:
        self.index = index
        self.prompt = prompt
        reading = order.reading
        shown = reading.shown if reading is not None else _NONE_SHOWN
        self.text = CompletionText(order.served.model.tokenizer, order.sampling, prompt.token_ids, shown)
        self.reader = reading.begin() if reading is not None else None
        """What takes the text apart; None where all of it is content."""
        self._called = False
        self.generation: Generation | None = None
        self.cached_tokens = 0
        self.prompt_tokens = len(prompt.token_ids)
        self.prompt_scores: list[list[TokenLogprob] | None] | None = None
        self.over = False

    @abstractmethod
    def on_delta(self, delta: Delta) -> None:
        """Take what one step added."""

    @abstractmethod
    def on_failure(self, error: InferenceError) -> None:
        """Take the reason why no further delta comes."""

    def account(self, delta: Delta) -> None:
        """Note what a delta, the first one, tells of the prompt."""
        if delta.cached_tokens is not None:
            self.cached_tokens = delta.cached_tokens
        if delta.prompt_tokens is not None:
            self.prompt_tokens = delta.prompt_tokens
        if delta.prompt_logprobs is not None:
            self.prompt_scores = delta.prompt_logprobs

    def read(self, fresh: str) -> list[Piece]:
        """Return the pieces of new text, which `text` gave, and the last ones once it has ended.

        Only for a choice that has a reader.
        """
        assert self.reader is not None
        pieces = self.reader.push(fresh)
        if self.text.finish is not None:
            pieces += self.reader.end()
        self._called = self._called or any(type(piece) is ToolCall for piece in pieces)
        return pieces

    @property
    def finish(self) -> str:
        """Return why the text ended: vLLM's reason, or TOOL_CALLS."""
        finish = self.text.finish or ""
        return TOOL_CALLS if self._called and finish == FinishReason.STOP else finish

    def stop(self) -> None:
        """Want no more tokens."""
        self.over = True
        if self.generation is not None:
            self.generation.cancel()


C = TypeVar("C", bound=Choice)


class Answer(ABC, Generic[C]):
    """The choices of one request, started and ended together; `choices` are ordered by index."""

    def __init__(self, visit: Visit, order: Order) -> None:
        self.visit = visit
        self.order = order
        self.model = order.served.model
        check_weight(order, len(visit.request.body))
        context_tokens = self.model.fleet.info.context_tokens
        most = self.model.defaults.most_tokens or context_tokens
        self._max_tokens = [
            min(most, budget(order.sampling, len(prompt.token_ids), context_tokens, order.prompt_field))
            for prompt in order.prompts
        ]
        n = order.sampling.n
        self.choices = [self.choice(prompt, p * n + i) for p, prompt in enumerate(order.prompts) for i in range(n)]
        self._left = len(self.choices)
        self._started_ns = 0
        self._outcome: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()

    @abstractmethod
    def choice(self, prompt: Prompt, index: int) -> C:
        """Make the sink of one completion."""

    @abstractmethod
    def refuse(self, error: InferenceError) -> None:
        """Tell the client that the answer ends here, after it has begun."""

    async def run(self) -> Response | None:
        """Start every generation and wait until the handler may return.

        Raises:
            InferenceError: the request failed before its first token, or was cancelled.
        """
        self._started_ns = time.monotonic_ns()
        self.model.statistics.pending += 1
        self.visit.request.on_disconnect(self.cancel)
        if self.visit.deadline is not None:
            self.visit.deadline.give_up = self.fail
        for choice, request in zip(self.choices, self._requests(), strict=True):
            if self._left == 0:
                break
            choice.generation = self.model.fleet.generate(request, choice)
            if choice.over:
                choice.stop()
        try:
            return await self._outcome
        except asyncio.CancelledError:
            self.cancel()
            raise

    def begun(self, response: Response | None) -> None:
        """Let the handler return."""
        if not self._outcome.done():
            self._outcome.set_result(response)

    def ended(self, choice: C) -> bool:
        """Note that a choice has all its text; return True when it was the last one."""
        if choice.text.stop_reason is not None:
            choice.stop()
        choice.over = True
        self._left -= 1
        if self._left:
            return False
        self._over(None)
        return True

    def fail(self, error: InferenceError) -> None:
        """End the whole answer: one completion failed."""
        if self._left == 0:
            return
        self._left = 0
        for choice in self.choices:
            choice.stop()
        if isinstance(error, SamplingRefused):
            error = FieldRefused(self.order.sampling.names.get(error.field, error.field), error.message, error.hint)
        self._over(error)
        if self._outcome.done():
            self.refuse(error)
        else:
            self._outcome.set_exception(error)

    def cancel(self) -> None:
        """End the answer because nobody wants it; harmless when it is over."""
        self.fail(Cancelled("the client closed the connection"))

    @property
    def route(self) -> RouteReport | None:
        """Return where the first choice went."""
        generation = self.choices[0].generation
        return generation.route if generation is not None else None

    def usage(self) -> Usage:
        """Count the tokens of the whole answer."""
        prompt_tokens = sum(choice.prompt_tokens for choice in self.choices[:: self.order.sampling.n])
        shown = self.order.details.completion
        completion_tokens = sum(choice.text.tokens for choice in self.choices) if shown else 0
        # Of several completions of a prompt the first one is routed by what was cached before this request.
        cached = sum(choice.cached_tokens for choice in self.choices[:: self.order.sampling.n])
        return Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens, PromptTokensDetails(cached))

    def _requests(self) -> Iterator[GenerationRequest]:
        order = self.order
        for prompt, max_tokens in zip(order.prompts, self._max_tokens, strict=True):
            for i in range(order.sampling.n):
                yield GenerationRequest(
                    token_ids=prompt.token_ids,
                    sampling=order.sampling.for_choice(i, max_tokens),
                    request_id=self.visit.id,
                    worker=self.visit.worker,
                    session=self.visit.session,
                    cache_salt=order.cache_salt,
                    lora=order.served.lora,
                    priority=order.priority,
                    tenant=self.visit.tenant,
                    arrived_s=self.visit.arrived_s,
                    media=order.media,
                )

    def _over(self, error: InferenceError | None) -> None:
        self.model.statistics.pending -= 1
        self.model.count(self._started_ns, error)
        usage = self.usage()
        self.visit.spend(usage.prompt_tokens, usage.completion_tokens)
        self.visit.end()


def engine_failure(delta: Delta) -> ModelFailed:
    """Return the error of a completion that the engine itself gave up."""
    return ModelFailed(delta.error or "the engine failed without a reason")
