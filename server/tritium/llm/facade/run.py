"""One request on a language model under way: its prompts encoded, their sequences generated, responses sent.

    encode each prompt -> generate (n sequences of each) -> a sequence moves -> Answers.respond -> reply.send

The response that is sent when the last sequence is over is the final one; an error takes its place.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from tritium.backends.engine import Delta, FinishReason, TokenLogprob
from tritium.cluster.fleet import Fleet, Generation, GenerationRequest
from tritium.core.errors import Cancelled, DeadlineExceeded, InferenceError, Internal, ModelFailed
from tritium.core.request import InferRequest, InferResponse, Reply
from tritium.core.tensor import Tensor
from tritium.llm.errors import ContextExceeded, FieldRefused
from tritium.llm.facade.surface import Ask, Follower, Generate
from tritium.llm.text import CompletionText
from tritium.llm.tokenizer import Tokenizer

log = structlog.get_logger("tritium")


@dataclass(slots=True)
class Gain:
    """What a sequence gained since the last response."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[list[TokenLogprob]] = field(default_factory=list)


class _WholeText(CompletionText):
    """Text of which every token counts."""

    __slots__ = ()

    def kept(self, delta: Delta) -> int:
        return len(delta.token_ids)


class Completion:
    """One completion: the sink of its generation. `ask_index` counts prompts, `index` the sequences of one prompt."""

    __slots__ = (
        "_moved",
        "ask",
        "ask_index",
        "cached_tokens",
        "cumulative_logprob",
        "first_token_ns",
        "follower",
        "gain",
        "generation",
        "index",
        "last_token_ns",
        "log_probs",
        "on_failure",
        "prompt",
        "prompt_tokens",
        "started_ns",
        "tokens",
    )

    def __init__(self, run: "Run", ask: Ask, ask_index: int, index: int, prompt: list[int], follower: Follower) -> None:
        self._moved = run.moved
        self.on_failure: Callable[[InferenceError], None] = run.fail
        self.ask, self.ask_index, self.index = ask, ask_index, index
        self.prompt = prompt
        self.prompt_tokens = len(prompt)
        """Counts what media became, too, once the engine has said it."""
        self.follower = follower
        self.gain = Gain()
        self.tokens = 0
        """How many tokens of the answer there are so far."""
        self.log_probs: list[float] = []
        """Of every token of the answer so far, where they were asked for."""
        self.cumulative_logprob = 0.0
        self.cached_tokens = 0
        self.started_ns = self.first_token_ns = self.last_token_ns = 0
        self.generation: Generation | None = None

    @property
    def over(self) -> bool:
        """Tell whether no more tokens come."""
        return self.follower.finish is not None

    def on_delta(self, delta: Delta) -> None:
        """Take what one step added."""
        follower = self.follower
        if follower.finish is not None:
            return
        if delta.finish == FinishReason.ERROR:
            self.on_failure(ModelFailed(delta.error or "the engine failed without a reason"))
            return
        self.last_token_ns = time.monotonic_ns()
        self.first_token_ns = self.first_token_ns or self.last_token_ns
        if delta.cached_tokens is not None:
            self.cached_tokens = delta.cached_tokens
        if delta.prompt_tokens is not None:
            self.prompt_tokens = delta.prompt_tokens
        gain = self.gain
        gain.text += follower.push(delta)
        kept = follower.kept(delta)
        self.tokens += kept
        gain.token_ids += delta.token_ids[:kept]
        for entries in (delta.logprobs or ())[:kept]:
            gain.logprobs.append(entries)
            self.log_probs.append(entries[0].logprob)
            self.cumulative_logprob += entries[0].logprob
        if follower.finish is not None:
            self.stop()
        self._moved(self)

    def stop(self) -> None:
        """Want no more tokens."""
        if self.generation is not None:
            self.generation.cancel()

    def take(self) -> Gain:
        """Return what was gained, and begin to count anew."""
        gain, self.gain = self.gain, Gain()
        return gain


class Run:
    """The sequences of one request."""

    def __init__(self, request: InferRequest, reply: Reply, call: Generate) -> None:
        self.arrived_ns = time.monotonic_ns()
        self.completions: list[Completion] = []
        self.over = False
        self._request = request
        self._reply = reply
        self._call = call
        self._timer: asyncio.TimerHandle | None = None

    def expire_after(self, within_s: float) -> None:
        """Fail the request unless it is over in time."""
        self._timer = asyncio.get_running_loop().call_later(within_s, lambda: self.fail(too_late(within_s)))

    async def start(self, fleet: Fleet, tokenizer: Tokenizer) -> None:
        """Encode the prompts and begin to generate; whatever goes wrong is answered, not raised."""
        self._request.on_cancel(self._cancel)
        try:
            prompts = [await encode(tokenizer, fleet, ask.prompt, ask.field) for ask in self._call.asks]
            rooms = [
                _room(ask, fleet.info.context_tokens, prompt)
                for ask, prompt in zip(self._call.asks, prompts, strict=True)
            ]
            for number, (ask, prompt) in enumerate(zip(self._call.asks, prompts, strict=True)):
                follow = ask.follow or _WholeText
                for index in range(ask.sampling.n):
                    follower = follow(tokenizer, ask.sampling, prompt)
                    self.completions.append(Completion(self, ask, number, index, prompt, follower))
            for completion in self.completions:
                if self.over:
                    break
                self._generate(fleet, completion, rooms[completion.ask_index])
        except InferenceError as error:
            self.fail(error)
        except Exception:
            log.exception("generation_failed", model=self._request.model_name, request_id=self._request.id)
            self.fail(Internal("the server failed; its log has the reason"))

    def _generate(self, fleet: Fleet, completion: Completion, room: int) -> None:
        ask = completion.ask
        completion.started_ns = time.monotonic_ns()
        completion.generation = fleet.generate(
            GenerationRequest(
                completion.prompt,
                # vLLM and TensorRT-LLM let a completion run into the end of the context; only a prompt without room
                # is refused.
                ask.sampling.for_choice(completion.index, min(ask.sampling.max_tokens or room, room)),
                request_id=self._request.id,
                lora=ask.lora,
                priority=self._request.priority,
                media=ask.media,
                arrived_s=self.arrived_ns * 1e-9,
            ),
            completion,
        )
        if completion.over or self.over:
            completion.stop()

    def moved(self, completion: Completion) -> None:
        """Answer a step of one completion."""
        if self.over:
            return
        self.over = all(other.over for other in self.completions)
        outputs = self._call.answers.respond(completion, self)
        if outputs is not None or self.over:
            self._send(outputs)

    def stop(self) -> None:
        """End every sequence where it is, and answer with what there is."""
        for completion in self.completions:
            if not self.over and not completion.over:
                completion.follower.finish = FinishReason.ABORT
                completion.stop()
                self.moved(completion)
        if not self.over:
            self.over = True
            self._send([])

    def fail(self, error: InferenceError) -> None:
        """End the request: one sequence failed."""
        if self.over:
            return
        self.over = True
        for completion in self.completions:
            completion.stop()
        self._end_timer()
        self._reply.send(error, final=True)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _send(self, outputs: list[Tensor] | None) -> None:
        request = self._request
        if self.over:
            self._end_timer()
        if outputs is None:
            self._reply.send(None, final=self.over)
        else:
            response = InferResponse(request.model_name, request.model_version, outputs=outputs)
            self._reply.send(response, final=self.over)

    def _cancel(self) -> None:
        self.fail(Cancelled("Request was cancelled"))


def too_late(within_s: float) -> DeadlineExceeded:
    """Return what a request is told that took longer than this server gives one."""
    return DeadlineExceeded(
        f"the request took longer than the {within_s:g} s that this server gives one", hint="ask for fewer tokens"
    )


async def encode(tokenizer: Tokenizer, fleet: Fleet, prompt: str | Sequence[int], name: str) -> list[int]:
    """Return the token ids of a prompt that came in the input of that name.

    Raises:
        InferenceError: it is too long, or has ids that are not in the vocabulary.
    """
    if isinstance(prompt, str):
        tokenizer.check_room(prompt, fleet.info.context_tokens, name)
        return await tokenizer.encode(prompt, add_special=True)
    size = tokenizer.vocabulary_size
    if (wrong := next((i for i in prompt if not 0 <= i < size), None)) is not None:
        raise FieldRefused(name, f"token id {wrong} in '{name}' is not in the vocabulary of {size} tokens")
    return list(prompt)


def _room(ask: Ask, context_tokens: int, prompt: Sequence[int]) -> int:
    """Return how many tokens may follow a prompt."""
    if not prompt:
        raise FieldRefused(ask.field, f"'{ask.field}' is empty: there is no token to go on from")
    if len(prompt) >= context_tokens:
        raise ContextExceeded(ask.field, context_tokens, len(prompt), 0)
    return context_tokens - len(prompt)
