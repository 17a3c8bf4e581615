"""The mocker: requests, a clock and faults around the simulated scheduler.

    submit -> [admit -> transfer] -> plan -> wait as long as a GPU would take -> tokens -> on_step, on_events

It lives on the event loop. Without a timing a step follows the other as fast as the loop turns, which measures the
front; with one, time passes as on the machine that is simulated, or `speedup` times as fast.
"""

import asyncio
import os
import signal
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tritium.backends.engine import (
    GENERATE,
    LORA_MODULES,
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
from tritium.backends.mocker.durations import Durations
from tritium.backends.mocker.faults import Fault
from tritium.backends.mocker.journal import EventJournal
from tritium.backends.mocker.pooling import pooled
from tritium.backends.mocker.sampling import MEANINGLESS
from tritium.backends.mocker.scheduler import Plan, Scheduler, Sequence
from tritium.backends.mocker.settings import block_manager, read_settings
from tritium.backends.mocker.speaker import Generation, Speaker
from tritium.core.errors import InferenceError, InvalidArgument, Unsupported

_FOR_EVER_S = float(1 << 30)

_LONGEST_LAG_S = 0.1
"""How far the clock may fall behind before it gives up catching up."""


class MockerEngine:
    """A LanguageEngine that computes nothing; see docs/engines.md for its arguments."""

    def __init__(self, source: EngineSource) -> None:
        self._source = source
        self._live: dict[int, Generation] = {}
        self._refused: list[Delta] = []
        self._loras: set[str] = set()
        self._faults: list[Fault] = []
        self._slow: Fault | None = None
        self._slow_until = float("inf")
        self._timer: asyncio.Handle | None = None
        self._plan: Plan | None = None
        self._clock = 0.0
        self._arrivals: dict[int, asyncio.TimerHandle] = {}
        self._counts = dict.fromkeys(_COUNTERS, 0.0)

    async def start(self, sinks: EngineSinks) -> EngineInfo:
        """Begin to simulate, after the time that loading is said to take.

        Raises:
            InvalidArgument: an argument of the wrong type or range, or a file of the model that cannot be read.
        """
        settings = self._settings = read_settings(self._source.arguments, self._source.folder)
        self._loop = asyncio.get_running_loop()
        self._sinks = sinks
        self._speaker = Speaker(settings, self._source.folder)
        self._loras = set(self._source.arguments.get(LORA_MODULES) or ())
        self._faults = [fault for fault in settings.mocker.faults if fault.concerns(self._source.worker)]
        self._durations = Durations(settings)
        self._journal = EventJournal(settings.block_tokens)
        self._scheduler = Scheduler(block_manager(settings, self._journal), settings.limits)
        await asyncio.sleep(settings.mocker.load_s)
        return EngineInfo(
            engine="mocker",
            version=version("tritium"),
            context_tokens=settings.context,
            block_tokens=settings.block_tokens,
            total_blocks=settings.blocks,
            max_sequences=settings.limits.sequences,
            transfer="mocker" if self._source.moves_kv else "",
            tasks=(GENERATE, *POOLING),
            modalities=("image", "audio", "video"),
            lora=True,
            structured=False,
            resumes=(*sorted(MEANINGLESS), "seed"),
            roles=tuple(Role),
        )

    def submit(self, request: Generate) -> None:
        """Queue one sequence; a bad request is answered by an error delta."""
        try:
            generation = self._speaker.begin(request, self._loras)
        except InferenceError as refused:
            # KV that cannot be taken is no fault of the client's: the prompt is computed here then.
            invalid = isinstance(refused, InvalidArgument | Unsupported)
            self._refused.append(Delta(request.id, [], finish=FinishReason.ERROR, error=refused.told, invalid=invalid))
        else:
            self._live[request.id] = generation
            self._scheduler.add(generation.sequence)
        self._wake()

    def abort(self, id: int) -> None:  # noqa: A002  the contract's name
        """Drop one sequence."""
        generation = self._live.get(id)
        if generation is not None:
            self._end(generation)
        else:
            self._refused = [each for each in self._refused if each.id != id]

    def pool(self, request: Pool) -> None:
        """Answer at once with numbers that depend on the tokens and the adapter alone."""
        self._loop.call_soon(self._sinks.on_pooled, pooled(request))

    async def load_lora(self, name: str, path: str) -> None:
        """Take any folder for an adapter.

        Raises:
            InvalidArgument: there is no such folder.
        """
        try:
            found = await asyncio.to_thread(Path(path).is_dir)
        except OSError as error:
            raise InvalidArgument(f"adapter '{name}': {error.strerror}") from None
        if not found:
            raise InvalidArgument(f"adapter '{name}': there is no folder {path}")
        self._loras.add(name)

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter."""
        self._loras.discard(name)

    def metrics(self) -> dict[str, float]:
        """Return counters since the start, and the state of the cache, by metric name."""
        scheduler = self._scheduler
        return self._counts | {
            "tritium_engine_running": scheduler.running,
            "tritium_engine_waiting": len(scheduler.waiting),
            "tritium_engine_preemptions_total": scheduler.preemptions,
            "tritium_engine_kv_used_blocks": scheduler.blocks.used,
            "tritium_engine_kv_total_blocks": scheduler.blocks.blocks,
        }

    async def stop(self) -> None:
        """Take no further step."""
        for timer in (self._timer, *self._arrivals.values()):
            if timer is not None:
                timer.cancel()
        self._live.clear()

    # The clock: a step begins, takes its time, and ends.

    def _wake(self) -> None:
        if self._timer is None:
            self._clock = self._loop.time()
            self._timer = self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        plan = self._plan = self._scheduler.plan()
        for admission in plan.admitted:
            if admission.sequence in self._scheduler.arriving:
                self._fetch(admission.sequence, admission.match.blocks)
        took_s = self._duration_s(plan)
        if not took_s:
            self._finish()
            return
        # Counted from when the step before should have ended, so that a late timer makes none of the next ones late.
        self._clock = max(self._clock, self._loop.time() - _LONGEST_LAG_S) + took_s
        self._timer = self._loop.call_at(self._clock, self._finish)

    def _duration_s(self, plan: Plan) -> float:
        took_s = self._durations.step_s(plan)
        if self._slow is not None:
            if self._loop.time() < self._slow_until:
                return max(took_s * self._slow.factor, self._slow.least_ms / 1e3)
            self._slow = None
        return took_s

    def _finish(self) -> None:
        """End the step: every sequence that it completed gets a token."""
        plan, self._plan = self._plan, None
        assert plan is not None
        self._counts["tritium_engine_steps_total"] += bool(plan)
        deltas, self._refused = self._refused, []
        scheduler, live = self._scheduler, self._live
        decoded = [generation for each in plan.decodes if (generation := live.get(each.id)) is not None]
        scheduler.decoded([generation.sequence for generation in decoded])
        decoded += [
            generation
            for chunk in plan.chunks
            if (generation := live.get(chunk.sequence.id)) is not None and scheduler.computed(chunk)
        ]
        deltas += map(self._extend, decoded)
        self._counts["tritium_engine_output_tokens_total"] += sum(len(delta.token_ids) for delta in deltas)
        if events := self._journal.take():
            self._sinks.on_events(events)
        if deltas:
            self._sinks.on_step(Step(deltas, scheduler.running, len(scheduler.waiting), scheduler.blocks.used))
        self._timer = None
        if not self._faults or not self._fail():
            self._go_on()

    def _go_on(self) -> None:
        scheduler = self._scheduler
        if (
            scheduler.decoding
            or scheduler.prefilling
            or self._refused
            or (scheduler.waiting and not scheduler.arriving)
        ):
            self._timer = self._loop.call_soon(self._begin)

    def _extend(self, generation: Generation) -> Delta:
        """Give a sequence its next token, and end it when that is the last."""
        delta = self._speaker.extend(generation)
        if delta.cached_tokens is not None:
            self._counts["tritium_engine_prompt_tokens_total"] += generation.sequence.prompt_tokens
            self._counts["tritium_engine_cached_prompt_tokens_total"] += delta.cached_tokens
        if delta.finish is not None:
            if generation.keep:
                delta.transfer = self._export(generation.sequence)
            self._end(generation)
        return delta

    def _end(self, generation: Generation) -> None:
        sequence = generation.sequence
        del self._live[sequence.id]
        if (timer := self._arrivals.pop(sequence.id, None)) is not None:
            timer.cancel()
        self._scheduler.remove(sequence)

    # KV from and to other workers.

    def _export(self, sequence: Sequence) -> dict[str, Any]:
        return {"engine": "mocker", "worker": self._source.worker, "tokens": sequence.prompt_tokens}

    def _fetch(self, sequence: Sequence, found_blocks: int) -> None:
        """Wait as long as the part of the prompt's KV that is not here would be on its way."""
        block_tokens = self._settings.block_tokens
        tokens = sequence.prompt_tokens - found_blocks * block_tokens
        took_s = self._durations.transfer_s(tokens)
        self._counts["tritium_kv_pulls_total"] += 1
        self._counts["tritium_kv_received_bytes_total"] += self._durations.transfer_bytes(tokens)
        self._counts["tritium_kv_received_blocks_total"] += -(-tokens // block_tokens)
        self._counts["tritium_kv_pull_seconds_total"] += took_s
        self._arrivals[sequence.id] = self._loop.call_later(took_s, self._arrive, sequence)

    def _arrive(self, sequence: Sequence) -> None:
        self._arrivals.pop(sequence.id, None)
        if sequence in self._scheduler.arriving:
            self._scheduler.arrived(sequence)
            self._wake()

    # Faults.

    def _fail(self) -> bool:
        """Let happen what is due after this step; return whether the engine steps no further by itself."""
        steps = self._counts["tritium_engine_steps_total"]
        due = [fault for fault in self._faults if fault.step <= steps]
        self._faults = [fault for fault in self._faults if fault.step > steps]
        stands = False
        for fault in due:
            match fault.kind:
                case "die":
                    stands = True
                    self._sinks.on_death(f"the mocker was told to die at step {fault.step}")
                case "crash":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "freeze":
                    stands = True
                    # Until this timer fires nothing else may wake the engine: it stands in the place of a step.
                    thaw_s = fault.seconds or _FOR_EVER_S
                    self._timer = self._loop.call_later(thaw_s, self._thaw)
                case "hang":
                    time.sleep(fault.seconds or _FOR_EVER_S)
                case "slow":
                    self._slow = fault
                    self._slow_until = self._loop.time() + (fault.seconds or float("inf"))
                case "forget":
                    self._scheduler.blocks.clear()
        return stands

    def _thaw(self) -> None:
        self._timer = None
        self._clock = self._loop.time()
        self._go_on()


_COUNTERS = (
    "tritium_engine_steps_total",
    "tritium_engine_prompt_tokens_total",
    "tritium_engine_cached_prompt_tokens_total",
    "tritium_engine_output_tokens_total",
    "tritium_kv_received_bytes_total",
    "tritium_kv_received_blocks_total",
    "tritium_kv_pulls_total",
    "tritium_kv_pull_seconds_total",
)
