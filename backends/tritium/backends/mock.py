"""An engine that computes nothing: it measures the front, and plays a fleet of any size for the router.

It lives on the event loop, hands out one token of every running sequence a step, as fast as the loop turns or at a
given pace, and keeps the books of a real one: admission by blocks, prefix cache, KV events, disaggregation.
Tokens count upwards from the prompt's last, so that a generation moved to another worker goes on as it would have.
"""

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tritium.backends.embedded.cache import BlockKey, BlockPool, extend_keys
from tritium.backends.engine import (
    GENERATE,
    POOLING,
    Delta,
    EngineInfo,
    EngineSinks,
    EngineSource,
    FinishReason,
    Generate,
    Pool,
    Role,
    Step,
)
from tritium.backends.mock_pooling import pooled
from tritium.core.errors import InvalidArgument

_FIRST_TOKEN = 16
"""Below are the special tokens of most vocabularies."""

Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class MockArguments(msgspec.Struct, frozen=True):
    """vLLM's engine arguments by name, and the pace: `mock_step_ms` a step, `mock_prefill_us` a prompt token."""

    max_model_len: Positive = 131_072
    block_size: Positive = 16
    num_gpu_blocks_override: Positive = 16_384
    max_num_seqs: Positive = 1_024
    mock_step_ms: NotNegative = 0.0
    mock_prefill_us: NotNegative = 0.0
    mock_vocabulary: Annotated[int, msgspec.Meta(gt=_FIRST_TOKEN)] | None = None


@dataclass(slots=True, eq=False)
class _Sequence:
    request: Generate
    last: int
    left: int
    cached_tokens: int = 0
    blocks: list[int] = field(default_factory=list)
    keys: list[BlockKey] = field(default_factory=list)
    started: bool = False


class MockEngine:
    """A LanguageEngine that counts. Of the sampling fields it heeds `max_tokens` (16 where absent)."""

    def __init__(self, source: EngineSource) -> None:
        self._source = source
        self._waiting: deque[_Sequence] = deque()
        self._running: dict[int, _Sequence] = {}
        self._timer: asyncio.Handle | None = None
        self._refused: list[Delta] = []
        self._output_tokens = 0
        self._prompt_tokens = 0
        self._cached_tokens = 0

    async def start(self, sinks: EngineSinks) -> EngineInfo:
        """Begin to count.

        Raises:
            InvalidArgument: an argument of the wrong type or range.
        """
        try:
            arguments = self._arguments = msgspec.convert(dict(self._source.arguments), MockArguments)
        except msgspec.ValidationError as reason:
            raise InvalidArgument(f"engine arguments: {reason}") from None
        self._loop = asyncio.get_running_loop()
        self._sinks = sinks
        self._pool = BlockPool(arguments.num_gpu_blocks_override, arguments.block_size)
        self._tokens = arguments.mock_vocabulary or self._model_vocabulary()
        disaggregated = self._source.role is not Role.AGGREGATED
        return EngineInfo(
            engine="mock",
            version=version("tritium"),
            context_tokens=arguments.max_model_len,
            block_tokens=arguments.block_size,
            total_blocks=arguments.num_gpu_blocks_override,
            max_sequences=arguments.max_num_seqs,
            transfer="mock" if disaggregated else "",
            tasks=(GENERATE, *POOLING),
            modalities=("image", "audio", "video"),
            lora=True,
        )

    def submit(self, request: Generate) -> None:
        """Queue one sequence."""
        count = len(request.token_ids)
        left = min(request.sampling.get("max_tokens") or 16, self._arguments.max_model_len - count)
        sequence = _Sequence(request, request.token_ids[-1] if count else 0, left)
        if not count or left < 1 or self._blocks_for(sequence) > self._pool.blocks:
            error = f"the prompt has {count} tokens and the context of this model is {self._arguments.max_model_len}"
            self._refused.append(Delta(request.id, [], finish=FinishReason.ERROR, error=error, invalid=True))
        else:
            self._waiting.append(sequence)
        self._wake()

    def pool(self, request: Pool) -> None:
        """Answer at once with numbers that depend on the tokens and the adapter alone."""
        self._loop.call_soon(self._sinks.on_pooled, pooled(request))

    async def load_lora(self, name: str, path: str) -> None:
        """Take any folder for an adapter.

        Raises:
            InvalidArgument: there is no such folder.
        """
        if not await asyncio.to_thread(Path(path).is_dir):
            raise InvalidArgument(f"adapter '{name}': there is no folder {path}")

    async def unload_lora(self, name: str) -> None:
        """Forget nothing: adapters change no token here."""

    def abort(self, id: int) -> None:  # noqa: A002  # the contract's name
        """Drop one sequence."""
        sequence = self._running.pop(id, None)
        if sequence is not None:
            self._pool.release(sequence.blocks)
        else:
            self._waiting = deque(each for each in self._waiting if each.request.id != id)
            self._refused = [each for each in self._refused if each.id != id]

    def metrics(self) -> dict[str, float]:
        """Return counters since the start, by metric name."""
        return {
            "tritium_engine_prompt_tokens_total": self._prompt_tokens,
            "tritium_engine_cached_prompt_tokens_total": self._cached_tokens,
            "tritium_engine_output_tokens_total": self._output_tokens,
        }

    async def stop(self) -> None:
        """Count no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        self._running.clear()

    def _model_vocabulary(self) -> int:
        config = self._source.folder / "config.json"
        return int(json.loads(config.read_bytes())["vocab_size"]) if config.exists() else 32_000

    def _blocks_for(self, sequence: _Sequence) -> int:
        return -(-(len(sequence.request.token_ids) + sequence.left) // self._pool.block_tokens)

    def _wake(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Admit what fits, and take the step after the time it would have cost."""
        computed = self._admit()
        pause_s = self._arguments.mock_step_ms / 1e3 + computed * self._arguments.mock_prefill_us / 1e6
        if pause_s:
            self._timer = self._loop.call_later(pause_s, self._step)
        else:
            self._step()

    def _admit(self) -> int:
        """Move waiting sequences to running and return how many prompt tokens have to be computed for them."""
        computed = 0
        while self._waiting and len(self._running) < self._arguments.max_num_seqs:
            sequence = self._waiting[0]
            request = sequence.request
            extend_keys(sequence.keys, request.token_ids, self._pool.block_tokens, request.cache_salt)
            matched = self._pool.match(sequence.keys[: (len(request.token_ids) - 1) // self._pool.block_tokens])
            new = self._blocks_for(sequence) - len(matched)
            if not self._pool.can_fit(matched, new):
                break
            self._pool.lease(matched)
            sequence.blocks = matched + self._pool.reserve(new)
            self._pool.seal(sequence.blocks[len(matched) : len(sequence.keys)], sequence.keys[len(matched) :])
            sequence.cached_tokens = len(matched) * self._pool.block_tokens
            if request.transfer is not None:
                sequence.cached_tokens = len(request.token_ids) - 1
            computed += len(request.token_ids) - sequence.cached_tokens
            self._prompt_tokens += len(request.token_ids)
            self._cached_tokens += sequence.cached_tokens
            self._running[request.id] = self._waiting.popleft()
        return computed

    def _step(self) -> None:
        running = tuple(self._running.values())
        deltas = self._refused + [self._advance(sequence) for sequence in running]
        self._refused = []
        self._output_tokens += len(running)
        if events := self._pool.take_events():
            self._sinks.on_events(events)
        self._sinks.on_step(Step(deltas, len(self._running), len(self._waiting), self._pool.used))
        self._timer = None
        if self._running or self._waiting or self._refused:
            self._wake()

    def _advance(self, sequence: _Sequence) -> Delta:
        sequence.last += 1
        if not _FIRST_TOKEN <= sequence.last < self._tokens:
            sequence.last = _FIRST_TOKEN
        sequence.left -= 1
        id_ = sequence.request.id
        delta = Delta(id_, [sequence.last])
        if not sequence.started:
            sequence.started = True
            delta.cached_tokens = sequence.cached_tokens
        if not sequence.left:
            delta.finish = FinishReason.LENGTH
            if self._source.role is Role.PREFILL:
                delta.transfer = _transfer(self._source.worker, sequence)
            del self._running[id_]
            self._pool.release(sequence.blocks)
        return delta


def _transfer(worker: str, sequence: _Sequence) -> dict[str, Any]:
    return {"engine": "mock", "worker": worker, "tokens": len(sequence.request.token_ids)}
