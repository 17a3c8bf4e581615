"""What the tensorrtllm engine uses of TensorRT-LLM's LLM API, without a model: tokens count upwards.

Names of parameters and fields are those of the real package (qa/fakes/tensorrt_llm.json holds what was read of its
source), and so are the shapes of what is returned. It keeps habits that an engine may stumble over: every output of a
request is the same object, events and statistics cannot be asked for before the first request, an iteration over them
ends when nothing comes for a while, and a request goes on until it is aborted.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from .disaggregated_params import DisaggregatedParams
from .executor.result import CompletionOutput, Logprob
from .llmapi.llm_args import TorchLlmArgs
from .sampling_params import SamplingParams

__version__ = "1.2.1"

END = 2


class RequestOutput:
    """One request's output: iterating over it gives itself, with one more token each time."""

    def __init__(self, llm: "LLM", prompt: list[int], parameters: SamplingParams, asked: dict[str, Any]) -> None:
        self._llm = llm
        self._prompt = prompt
        self._parameters = parameters
        self._part: DisaggregatedParams | None = asked["disaggregated_params"]
        self.outputs = [CompletionOutput(0)]
        self.cached_tokens = llm.block_tokens if tuple(prompt) in llm.seen else 0
        self.aborted = False
        self.finished = False
        llm.seen.add(tuple(prompt))

    def abort(self) -> None:
        """Abort the request."""
        self.aborted = True
        self._llm.running.discard(id(self))

    def __aiter__(self) -> "RequestOutput":
        return self

    async def __anext__(self) -> "RequestOutput":
        if self.finished:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        completion, parameters = self.outputs[0], self._parameters
        completion.start_step()
        token = self._prompt[-1] + len(completion.token_ids) + 1
        handed = self._part if not completion.token_ids else None
        if handed is not None and handed.request_type == "generation_only":
            # What was sampled where the prompt was computed is the beginning of the answer here.
            (token,) = handed.first_gen_tokens
        elif handed is not None:
            # Sampling is told apart by its temperature: the likeliest token, or the one after it.
            token += 1 if parameters.temperature else 0
        completion.token_ids.append(token)
        if parameters.logprobs is not None:
            assert handed is None or handed.request_type != "generation_only" or handed.first_gen_log_probs
            own = _logprobs(token, parameters.logprobs)
            given = handed.first_gen_log_probs if handed is not None else None
            completion.logprobs.append(given[0][0] if given else own)
        if parameters.prompt_logprobs is not None:
            completion.prompt_logprobs = [_logprobs(each, parameters.prompt_logprobs) for each in self._prompt[1:]]
        if self._part is not None and self._part.request_type == "context_only" and token != END:
            completion.finish_reason = "not_finished"
            completion.disaggregated_params = DisaggregatedParams(
                request_type="context_only",
                first_gen_tokens=[token],
                first_gen_log_probs=[completion.logprobs] if parameters.logprobs is not None else None,
                ctx_request_id=7,
                opaque_state=b"\x00kv",
            )
        elif token == END and not parameters.ignore_eos:
            completion.finish_reason = "stop"
        elif token in (parameters.stop_token_ids or ()):
            completion.finish_reason, completion.stop_reason = "stop", token
            if not parameters.include_stop_str_in_output:
                completion.token_ids.pop()
        elif len(completion.token_ids) == parameters.max_tokens:
            completion.finish_reason = "length"
        self.finished = completion.finish_reason is not None
        if self.finished:
            self._llm.running.discard(id(self))
        return self


class LLM:
    """Counts upwards from a prompt's last token."""

    started: ClassVar[list["LLM"]] = []

    def __init__(
        self,
        model: str,
        tokenizer: Any = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        for name in kwargs:
            if name not in TorchLlmArgs.model_fields:
                raise ValueError(f"LLM got invalid argument: {name}")
        self.args = TorchLlmArgs(model=model, **kwargs)
        self.block_tokens = self.args.kv_cache_config.tokens_per_block
        self.seen: set[tuple[int, ...]] = set()
        self.running: set[int] = set()
        self.requests: list[dict[str, Any]] = []
        self.outputs: list[RequestOutput] = []
        self.closed = False
        self._events: list[dict[str, Any]] = []
        self._told = 0
        LLM.started.append(self)

    def generate_async(
        self,
        inputs: list[int],
        sampling_params: SamplingParams | None = None,
        lora_request: Any = None,
        prompt_adapter_request: Any = None,
        streaming: bool = False,
        kv_cache_retention_config: Any = None,
        disaggregated_params: DisaggregatedParams | None = None,
        _postproc_params: Any = None,
        scheduling_params: Any = None,
        cache_salt: str | None = None,
    ) -> RequestOutput:
        """Begin one request."""
        assert streaming
        assert sampling_params is not None
        if len(inputs) > (self.args.max_num_tokens or 8192):
            raise ValueError(f"The sum of prompt length ({len(inputs)}) should not exceed max_num_tokens")
        asked = {name: value for name, value in locals().items() if name != "self"}
        self.requests.append(asked)
        self._store(inputs)
        output = RequestOutput(self, inputs, sampling_params, asked)
        self.running.add(id(output))
        self.outputs.append(output)
        return output

    async def get_kv_cache_events_async(self, timeout: float | None = 2) -> AsyncIterator[dict[str, Any]]:
        """Give the events there are."""
        assert self.requests, "KV Event IterationResult is not properly instantiated."
        if self.args.kv_cache_config.event_buffer_max_size:
            events, self._events = self._events, []
            for event in events:
                yield event
        await asyncio.sleep(0.005)

    async def get_stats_async(self, timeout: float | None = 2) -> AsyncIterator[dict[str, Any]]:
        """Give one step's statistics."""
        assert self.requests, "IterationResult is not properly instantiated."
        cache = {"maxNumBlocks": 1000, "usedNumBlocks": len(self.running), "tokensPerBlock": self.block_tokens}
        yield {"numActiveRequests": len(self.running), "numQueuedRequests": 0, "kvCacheStats": cache}
        await asyncio.sleep(0.005)

    def shutdown(self) -> None:
        """End."""
        self.closed = True

    def _store(self, tokens: list[int]) -> None:
        size = self.block_tokens
        blocks = [
            {
                "type": "stored_block",
                "block_hash": int.from_bytes(hashlib.sha256(bytes(str(tokens[: at + size]), "ascii")).digest()[:8]),
                "tokens": [
                    {"type": "unique_token", "token_id": token, "token_extra_id": 0} for token in tokens[at : at + size]
                ],
                "cache_level": 0,
                "priority": 35,
            }
            for at in range(0, len(tokens), size)
        ]
        data = {"type": "stored", "parent_hash": None, "blocks": blocks}
        self._events.append({"event_id": self._told, "data": data, "window_size": 4096})
        self._told += 1


def _logprobs(token: int, count: int) -> dict[int, Logprob]:
    return {token + place: Logprob(-0.5 * (place + 1), place + 1) for place in range(max(count, 1))}
