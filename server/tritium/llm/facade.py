"""One KServe request on a language model: tensors in, generations, tensors out.

    read -> encode -> generate (n completions) -> a response a step (stream), or one with everything

A stream has as many responses as the engine has steps; in each, a completion that did not move has an empty text.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from tritium.backends.engine import Delta, FinishReason, TokenLogprob
from tritium.cluster.fleet import Fleet, Generation, GenerationRequest
from tritium.core.errors import Cancelled, InferenceError, Internal, ModelFailed
from tritium.core.request import InferRequest, InferResponse, Reply
from tritium.core.tensor import Tensor
from tritium.llm import tensors
from tritium.llm.errors import ContextExceeded
from tritium.llm.sampling import Sampling, split
from tritium.llm.tensors import TextRequest
from tritium.llm.text import CompletionText
from tritium.llm.tokenizer import Tokenizer

log = structlog.get_logger("tritium")

_MAX_TOKENS = 16
"""vLLM's own default of max_tokens."""


@dataclass(slots=True)
class _Gain:
    """What a completion gained since the last response."""

    text: str = ""
    tokens: int = 0
    logprobs: list[list[TokenLogprob]] = field(default_factory=list)


class _Completion:
    """The sink of one generation."""

    __slots__ = ("_moved", "cumulative_logprob", "gain", "generation", "on_failure", "text")

    def __init__(self, owner: "TextGeneration", text: CompletionText) -> None:
        self._moved = owner.moved
        self.on_failure: Callable[[InferenceError], None] = owner.fail
        self.text = text
        self.gain = _Gain()
        self.cumulative_logprob = 0.0
        self.generation: Generation | None = None

    def on_delta(self, delta: Delta) -> None:
        """Take what one step added."""
        if self.text.finish is not None:
            return
        if delta.finish == FinishReason.ERROR:
            self.on_failure(ModelFailed(delta.error or "the engine failed without a reason"))
            return
        self.gain.text += self.text.push(delta)
        self.gain.tokens += len(delta.token_ids)
        for entries in delta.logprobs or ():
            self.gain.logprobs.append(entries)
            self.cumulative_logprob += entries[0].logprob
        if self.text.finish is not None:
            self.stop()
        self._moved()

    def stop(self) -> None:
        """Want no more tokens."""
        if self.generation is not None:
            self.generation.cancel()


class TextGeneration:
    """The completions of one request. The last response is final; an error ends it in the last one's place."""

    def __init__(self, request: InferRequest, reply: Reply, tokenizer: Tokenizer, asked: TextRequest) -> None:
        self._request = request
        self._reply = reply
        self._tokenizer = tokenizer
        self._asked = asked
        self._completions: list[_Completion] = []
        self._prompt_tokens = 0
        self._over = False

    async def run(self, fleet: Fleet) -> None:
        """Encode the prompt and begin to generate; whatever goes wrong is answered, not raised."""
        self._request.on_cancel(self._cancel)
        try:
            sampling = _sampling(self._asked)
            self._tokenizer.check_room(self._asked.prompt, fleet.info.context_tokens, "text_input")
            prompt = await self._tokenizer.encode(self._asked.prompt, add_special=True)
            self._start(fleet, prompt, sampling)
        except InferenceError as error:
            self.fail(error)
        except Exception:
            log.exception("generation_failed", model=self._request.model_name, request_id=self._request.id)
            self.fail(Internal("the server failed; its log has the reason"))

    def _start(self, fleet: Fleet, prompt: list[int], sampling: Sampling) -> None:
        context_tokens = fleet.info.context_tokens
        room = context_tokens - len(prompt)
        if room < 1:
            raise ContextExceeded("text_input", context_tokens, len(prompt), 0)
        self._prompt_tokens = len(prompt)
        self._completions = [
            _Completion(self, CompletionText(self._tokenizer, sampling, prompt)) for _ in range(sampling.n)
        ]
        for index, completion in enumerate(self._completions):
            if self._over:
                return
            completion.generation = fleet.generate(
                GenerationRequest(
                    prompt,
                    # vLLM lets a completion run into the end of the context; only a prompt without room is refused.
                    sampling.for_choice(index, min(sampling.max_tokens or room, room)),
                    request_id=self._request.id,
                    lora=self._asked.lora,
                    priority=self._request.priority,
                ),
                completion,
            )
            if completion.text.finish is not None or self._over:
                completion.stop()

    def moved(self) -> None:
        """Answer a step of one completion, or all of them once the last one is over."""
        if self._over:
            return
        self._over = all(other.text.finish is not None for other in self._completions)
        if self._over or self._asked.stream:
            self._reply.send(self._response(), final=self._over)

    def fail(self, error: InferenceError) -> None:
        """End the request: one completion failed."""
        if self._over:
            return
        self._over = True
        for completion in self._completions:
            completion.stop()
        self._reply.send(error, final=True)

    def _cancel(self) -> None:
        self.fail(Cancelled("Request was cancelled"))

    def _response(self) -> InferResponse:
        completions, returns = self._completions, self._asked.returns
        prompt = self._asked.prompt if self._asked.prepend else ""
        outputs: list[Tensor] = [tensors.texts("text_output", [prompt + c.gain.text for c in completions])]
        if "return_finish_reason" in returns:
            outputs.append(tensors.texts("finish_reason", [str(c.text.finish) for c in completions]))
        if "return_cumulative_logprob" in returns:
            outputs.append(tensors.floats("cumulative_logprob", [c.cumulative_logprob for c in completions]))
        if "return_logprobs" in returns:
            scored = "logprobs" in self._asked.fields
            scores = [
                tensors.logprobs_json(self._tokenizer, c.gain.logprobs) if scored else "null" for c in completions
            ]
            outputs.append(tensors.texts("logprobs", scores))
        if "return_num_input_tokens" in returns:
            outputs.append(tensors.counts("num_input_tokens", [self._prompt_tokens]))
        if "return_num_output_tokens" in returns:
            outputs.append(tensors.counts("num_output_tokens", [c.gain.tokens for c in completions]))
        for completion in completions:
            completion.gain = _Gain()
        return InferResponse(self._request.model_name, self._request.model_version, outputs=outputs)


def _sampling(asked: TextRequest) -> Sampling:
    sampling = split(asked.fields)
    if "max_tokens" not in asked.fields:
        sampling = replace(sampling, max_tokens=_MAX_TOKENS)
    if "return_cumulative_logprob" in asked.returns and sampling.logprobs is None:
        # The sum needs the sampled tokens' scores, whether or not the client wants to see them.
        sampling = replace(sampling, engine={**sampling.engine, "logprobs": 0})
    return sampling
