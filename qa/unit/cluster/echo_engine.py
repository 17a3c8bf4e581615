"""An engine to test fleets with: its next token is a function of all before, it caches blocks, it can be told to fail.

Runs in real worker processes, named "echo_engine:EchoEngine". Arguments: `step_s`, `prefill_step_s`, `block_tokens`,
`total_blocks`, `fail_load`, `die_loading`, `tasks`, `slow_pool` (no prompt is answered), `stand_at` (by worker, after
how many steps it makes no more), `refuse_below` (it chokes on prompts of so many tokens at most), `any_role`,
`refuse_role`, `decodes_only`, `first_token_moves` (see EngineInfo), `image_token` (it stands for an image, which
becomes as many of it as the image has bytes).
Sampling: `max_tokens`, and `boom` (the sequence fails), `refuse` (the request is at fault), `exit` (the process dies),
`no_transfer` (a decode worker cannot fetch the KV), `one_is_all` (the first token is the last), `huge` (what comes of
it is larger than a frame); parameters of poolings are `boom`, `refuse`, `exit` and `huge`, too.
"""

import asyncio
import os
import struct
import sys

import msgspec

from tritium.backends.engine import (
    BlocksStored,
    Delta,
    EngineInfo,
    EngineSinks,
    EngineSource,
    Generate,
    MetricFamily,
    MetricValue,
    Pool,
    Pooled,
    Role,
    Step,
    TokenLogprob,
)
from tritium.cluster.frames import MAX_FRAME_BYTES


def next_token(tokens: list[int]) -> int:
    """Return the token that follows, so that output tells whether nothing before it was lost."""
    return (sum(tokens[-7:]) * 31 + len(tokens)) % 50_000


def continuation(tokens: list[int], count: int) -> list[int]:
    """Return what the engine generates after a prompt."""
    tokens = list(tokens)
    start = len(tokens)
    for _ in range(count):
        tokens.append(next_token(tokens))
    return tokens[start:]


class EchoEngine:
    def __init__(self, source: EngineSource) -> None:
        self.source = source
        self.arguments = dict(source.arguments)
        self.block_tokens = self.arguments.get("block_tokens", 4)
        prefill = source.role is Role.PREFILL
        self.step_s = self.arguments.get("prefill_step_s" if prefill else "step_s", 0.0)
        self.sequences: dict[int, tuple[Generate, list[int]]] = {}
        self.cached: dict[tuple[object, ...], int] = {}
        self.places: dict[int, dict[int, str]] = {}
        self.received = 0.0
        self.pooling: set[int] = set()
        self.ticking = False
        self.taken = 0
        self.last_step = self.arguments.get("stand_at", {}).get(source.worker)

    async def start(self, sinks: EngineSinks) -> EngineInfo:
        if self.arguments.get("fail_load"):
            raise ValueError("no weights in the folder")
        if self.arguments.get("refuse_role") == self.source.role:
            raise ValueError(f"no {self.source.role} here")
        if self.arguments.get("die_loading"):
            sys.stderr.write("the echo engine is about to die\n")
            sys.stderr.flush()
            os._exit(7)
        self.sinks = sinks
        self.loop = asyncio.get_running_loop()
        return EngineInfo(
            "echo",
            "1",
            context_tokens=10_000,
            block_tokens=self.block_tokens,
            total_blocks=self.arguments.get("total_blocks", 1000),
            max_sequences=8,
            transfer="echo",
            tasks=tuple(self.arguments.get("tasks", ["generate"])),
            modalities=("image",) if "image_token" in self.arguments else (),
            media_tokens={"image": self.arguments["image_token"]} if "image_token" in self.arguments else {},
            lora=True,
            roles=tuple(Role) if self.arguments.get("any_role") else (),
            computes_prompts=not (self.arguments.get("decodes_only") and self.source.role is Role.DECODE),
            first_token_moves=bool(self.arguments.get("first_token_moves")),
        )

    def pool(self, request: Pool) -> None:
        if request.parameters.get("exit"):
            os._exit(9)
        if request.parameters.get("choke"):
            raise ValueError("negative width")
        if request.parameters.get("huge"):
            answer = Pooled(request.id, [1], bytes(MAX_FRAME_BYTES))
        elif request.parameters.get("refuse"):
            answer = Pooled(request.id, error="no parameter 'refuse'", invalid=True)
        elif request.parameters.get("boom"):
            answer = Pooled(request.id, error="boom")
        else:
            numbers = [float(sum(request.token_ids)), float(len(request.token_ids))]
            answer = Pooled(request.id, [2], struct.pack("<2f", *numbers))
        self.pooling.add(request.id)
        if not self.arguments.get("slow_pool"):
            self.loop.call_soon(self.sinks.on_pooled, answer)

    def own_metrics(self) -> list[MetricFamily]:
        values = [MetricValue("_count", {"engine": "0"}, 3.0), MetricValue("_sum", {"engine": "0"}, 1.5)]
        return [MetricFamily("echo:delay_seconds", "histogram", "How long echoes take", values)]

    def submit(self, request: Generate) -> None:
        if request.sampling.get("exit"):
            os._exit(9)
        if request.sampling.get("choke") or len(request.token_ids) <= self.arguments.get("refuse_below", 0):
            raise ValueError("negative width")
        if request.media:
            request = self._with_images(request)
        self.sequences[request.id] = (request, list(request.token_ids))
        if not self.ticking:
            self.ticking = True
            self.loop.call_later(self.step_s, self._step)

    def abort(self, id: int) -> None:  # noqa: A002
        self.pooling.discard(id)
        self.sequences.pop(id, None)

    def metrics(self) -> dict[str, float]:
        return {"echo_received_blocks_total": self.received, "echo_pooling": len(self.pooling)}

    async def stop(self) -> None:
        self.sequences.clear()

    def _step(self) -> None:
        self.taken += 1
        if self.last_step is not None and self.taken > self.last_step:
            return
        deltas = []
        for number, (request, tokens) in list(self.sequences.items()):
            delta = self._advance(number, request, tokens)
            if delta.finish:
                self.sequences.pop(number, None)
            deltas.append(delta)
        self.sinks.on_step(Step(deltas, running=len(self.sequences)))
        self.ticking = bool(self.sequences)
        if self.ticking:
            self.loop.call_later(self.step_s, self._step)

    def _advance(self, number: int, request: Generate, tokens: list[int]) -> Delta:
        sampling = request.sampling
        first = len(tokens) == len(request.token_ids)
        if sampling.get("boom"):
            return Delta(number, [], "error", error="boom")
        if sampling.get("huge"):
            return Delta(number, [1], transfer={"kv": bytes(MAX_FRAME_BYTES)})
        if self.arguments.get("decodes_only") and self.source.role is Role.DECODE and request.transfer is None:
            return Delta(number, [], "error", error="there is no KV to go on from")
        if sampling.get("refuse"):
            return Delta(number, [], "error", error="no field 'refuse'", invalid=True)
        if request.transfer is not None and sampling.get("no_transfer"):
            return Delta(number, [], "error", error="the KV is gone")
        cached = None
        if first:
            if request.transfer is not None:
                assert request.transfer["tokens"] == request.token_ids
                self.received += len(request.token_ids) // self.block_tokens
            cached = self._cache(request, self.places.get(number, {}))
        token = next_token(tokens)
        tokens.append(token)
        done = len(tokens) - len(request.token_ids) >= sampling.get("max_tokens", 16)
        return Delta(
            number,
            [token],
            "stop" if sampling.get("one_is_all") else "length" if done else None,
            cached_tokens=cached,
            prompt_tokens=len(request.token_ids) if first and request.media else None,
            logprobs=[[TokenLogprob(token, -0.5, 1)]] if sampling.get("logprobs") is not None else None,
            transfer={"tokens": request.token_ids, "from": self.source.worker} if done and request.keep else None,
        )

    def _with_images(self, request: Generate) -> Generate:
        """Put every image in the place of its token, and remember where."""
        tokens, images, places = [], iter(request.media), {}
        for token in request.token_ids:
            if token == self.arguments["image_token"]:
                image = next(images)
                places[len(tokens)] = image.key
                tokens += [token] * len(image.data)
            else:
                tokens.append(token)
        self.places[request.id] = places
        return msgspec.structs.replace(request, token_ids=tokens)

    def _cache(self, request: Generate, places: dict[int, str]) -> int:
        """Store the prompt's full blocks, tell of the new ones, return how many tokens were there."""
        tokens, size = request.token_ids, self.block_tokens
        hits, parent, fresh, fresh_parent = 0, None, [], None
        for end in range(size, len(tokens) + 1, size):
            key = (hash(request.cache_salt), *(item for item in places.items() if item[0] < end), *tokens[:end])
            if key in self.cached:
                hits += 0 if fresh else 1
            else:
                if not fresh:
                    fresh_parent = parent
                self.cached[key] = len(self.cached) + 1
                fresh.append((self.cached[key], tokens[end - size : end]))
            parent = self.cached[key]
        if fresh:
            start = hits * size
            self.sinks.on_events(
                [
                    BlocksStored(
                        [key for key, _ in fresh],
                        fresh_parent,
                        [t for _, block in fresh for t in block],
                        size,
                        salt=request.cache_salt,
                        media={place - start: key for place, key in places.items() if place >= start},
                    )
                ]
            )
        return hits * size
