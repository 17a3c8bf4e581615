"""The embedded engine: a thread that steps, between a queue of requests and the event loop that hears of them.

    submit -> (grammar compiled) -> inbox -> [admit -> pull KV -> plan -> forward -> pick] -> on_step, on_events

The loop is never blocked by computing; the thread never touches anything of the loop but by
`call_soon_threadsafe`, once a step.
"""

import asyncio
import math
import queue
import threading
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import structlog

from tritium.backends.embedded.architecture import read_architecture
from tritium.backends.embedded.batch import build_step
from tritium.backends.embedded.blas import use_one_thread
from tritium.backends.embedded.cache import BlockPool
from tritium.backends.embedded.grammar import FIELD, Grammar, Grammars
from tritium.backends.embedded.model import Model
from tritium.backends.embedded.sampling import Sampler, Sampling, log_probabilities, read_sampling, report
from tritium.backends.embedded.scheduler import Scheduler, Sequence
from tritium.backends.embedded.settings import notes_on, read_settings
from tritium.backends.embedded.transfer import KvTransfer
from tritium.backends.embedded.weights import Floats, read_weights
from tritium.backends.engine import (
    Delta,
    EngineInfo,
    EngineSinks,
    EngineSource,
    FinishReason,
    Generate,
    KvEvent,
    Role,
    Step,
)
from tritium.backends.guidance import Guidance, read_guidance
from tritium.backends.transfer.check import TransferCheck, begin_check
from tritium.backends.transfer.paths import transport_of
from tritium.backends.transfer.transport import open_transport
from tritium.core.errors import InferenceError, InvalidArgument, SamplingRefused, Unsupported

_log = structlog.get_logger("tritium.embedded")


class EmbeddedEngine:
    """A LanguageEngine in NumPy."""

    def __init__(self, source: EngineSource) -> None:
        self._source = source
        self._inbox: queue.SimpleQueue[Sequence | int | None] = queue.SimpleQueue()
        self._live: set[int] = set()
        self._sequences: dict[int, Sequence] = {}
        self._compiling: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self._transfer: KvTransfer | None = None
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._output_tokens = 0
        self.steps = 0

    async def start(self, sinks: EngineSinks) -> EngineInfo:
        """Load the model and begin to step.

        Raises:
            InferenceError: the folder is not a model that this engine runs, or the arguments contradict it.
        """
        self._loop = asyncio.get_running_loop()
        self._sinks = sinks
        arguments = self._source.arguments
        trial = await begin_check(self._kind()) if self._source.check_transfer else None
        await asyncio.to_thread(self._load)
        check = await trial.result() if trial is not None else TransferCheck()
        self._thread = threading.Thread(target=self._run, name="embedded-engine", daemon=True)
        self._thread.start()
        return EngineInfo(
            engine="embedded",
            version=version("tritium"),
            context_tokens=self._settings.context,
            block_tokens=self._settings.block_tokens,
            total_blocks=self._settings.blocks,
            max_sequences=self._settings.max_sequences,
            transfer=self._transfer.transport.name if self._transfer else "",
            transfer_path=check.path,
            transfer_bytes_s=check.bytes_s,
            notes=notes_on(arguments) + check.notes,
            roles=tuple(Role) if self._transfer else (),
            structured=self._grammars.available,
            resumes=("structured_outputs", "presence_penalty", "frequency_penalty", "seed"),
        )

    def submit(self, request: Generate) -> None:
        """Queue one sequence; a bad request is answered by an error delta."""
        self._live.add(request.id)
        try:
            sampling = self._check(request)
            guidance = read_guidance(sampling.structured_outputs)
        except InferenceError as refused:
            self._loop.call_soon(self._refuse, request, refused)
            return
        if guidance is None:
            self._inbox.put(self._sequence(request, sampling, None))
            return
        task = self._loop.create_task(self._compile(request, sampling, guidance))
        self._compiling.add(task)
        task.add_done_callback(self._compiling.discard)

    async def _compile(self, request: Generate, sampling: Sampling, guidance: Guidance) -> None:
        """Queue a sequence once what it is held to has been compiled, which may take seconds."""
        try:
            grammar = await asyncio.to_thread(self._grammars.open, guidance)
        except InferenceError as refused:
            self._refuse(request, refused)
            return
        if request.id in self._live:
            self._inbox.put(self._sequence(request, sampling, grammar))

    def _refuse(self, request: Generate, refused: InferenceError) -> None:
        field = refused.field if isinstance(refused, SamplingRefused) else ""
        delta = Delta(request.id, [], FinishReason.ERROR, error=refused.told, invalid=True, field=field)
        self._tell(Step([delta]), [])

    def abort(self, id: int) -> None:  # noqa: A002  # the contract's name
        """Drop one sequence; nothing more is heard of it."""
        if id in self._live:
            self._live.discard(id)
            self._inbox.put(id)

    def metrics(self) -> dict[str, float]:
        """Return counters since the start, and the cache's fill, by metric name."""
        pool = self._scheduler.pool
        counters: dict[str, float] = {
            "tritium_engine_steps_total": self.steps,
            "tritium_engine_prompt_tokens_total": self._prompt_tokens,
            "tritium_engine_cached_prompt_tokens_total": self._cached_tokens,
            "tritium_engine_output_tokens_total": self._output_tokens,
            "tritium_engine_preemptions_total": self._scheduler.preemptions,
            "tritium_engine_kv_used_blocks": pool.used,
            "tritium_engine_kv_total_blocks": pool.blocks,
        }
        if self._transfer is not None:
            counts = self._transfer.counts
            counters |= {
                "tritium_kv_received_bytes_total": counts.received_bytes,
                "tritium_kv_received_blocks_total": counts.received_blocks,
                "tritium_kv_pulls_total": counts.pulls,
                "tritium_kv_pull_failures_total": counts.failures,
                "tritium_kv_exports_total": counts.exports,
                "tritium_kv_exports_expired_total": counts.expired,
                "tritium_kv_exports_held": self._transfer.leases,
            }
        return counters

    async def stop(self) -> None:
        """End the thread and free everything; sequences that still run are not heard of again."""
        self._live.clear()
        await asyncio.gather(*self._compiling)
        if self._thread is not None:
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        if self._transfer is not None:
            await asyncio.to_thread(self._transfer.close)
            self._transfer = None

    def _kind(self) -> str:
        """Return the transport that model.json names, else the one of the fleet's path."""
        return str(self._source.arguments.get("kv_transport") or transport_of(self._source.path))

    def _load(self) -> None:
        use_one_thread()
        architecture = read_architecture(self._source.folder)
        settings = self._settings = read_settings(self._source.arguments, architecture)
        a = self._architecture = architecture
        shape = (a.layers, 2, settings.blocks, settings.block_tokens, a.kv_heads, a.head_width)
        weights = read_weights(self._source.folder)
        pool = BlockPool(settings.blocks, settings.block_tokens, share_prefixes=settings.share_prefixes)
        self._scheduler = Scheduler(pool, max_sequences=settings.max_sequences, step_tokens=settings.step_tokens)
        if not self._source.moves_kv:
            cache = np.zeros(shape, np.float32)
        else:
            transport = open_transport(self._kind(), self._source.worker)
            cache = transport.allocate(math.prod(shape) * 4).view(np.float32).reshape(shape)
            layout = f"{a.name}/{a.layers}x2x{settings.block_tokens}x{a.kv_heads}x{a.head_width}/{weights.digest}"
            self._transfer = KvTransfer(transport, cache, self._scheduler, layout, self._source.worker)
        self._model = Model(a, weights, cache, settings.context)
        self._seeds = np.random.default_rng(settings.seed)
        self._grammars = Grammars(self._source.folder, a.vocabulary, a.end_tokens)

    def _check(self, request: Generate) -> Sampling:
        """Check a request and return how it is sampled."""
        a, context = self._architecture, self._settings.context
        count = len(request.token_ids)
        if not count:
            raise InvalidArgument("the prompt has no tokens")
        if count >= context:
            raise InvalidArgument(
                f"the prompt has {count} tokens and the context of this model is {context}",
                "at least one token must be left for the answer",
            )
        if min(request.token_ids) < 0 or max(request.token_ids) >= a.vocabulary:
            raise InvalidArgument(f"the prompt has token ids outside the vocabulary of {a.vocabulary}")
        if request.lora:
            raise Unsupported(f"adapter {request.lora!r}: the embedded engine has no LoRA", "serve the model with vLLM")
        if request.sampling.get(FIELD) is not None and not self._grammars.available:
            words = "the embedded engine holds a model to a form by llguidance and the model's tokenizer.json"
            raise SamplingRefused(FIELD, words, "pip install llguidance, or serve the model with vLLM")
        return read_sampling(request.sampling, a.vocabulary)

    def _sequence(self, request: Generate, sampling: Sampling, grammar: Grammar | None) -> Sequence:
        """Make a checked request a sequence."""
        count = len(request.token_ids)
        ends = self._architecture.end_tokens.union(sampling.stop_token_ids or ())
        sampler = Sampler(sampling, request.token_ids, ends, int(self._seeds.integers(1 << 63)), grammar)
        tokens = list(request.token_ids)
        if request.resumed_tokens:
            sampler.resume(tokens[-request.resumed_tokens :])
        return Sequence(
            request.id,
            tokens,
            count,
            sampling,
            sampler,
            priority=request.priority,
            salt=request.cache_salt,
            transfer=request.transfer,
            keep=request.keep,
        )

    def _tell(self, step: Step, events: list[KvEvent]) -> None:
        """Report on the loop, leaving out what was aborted in the meantime."""
        step.deltas = [delta for delta in step.deltas if delta.id in self._live]
        self._live.difference_update(delta.id for delta in step.deltas if delta.finish)
        if events:
            self._sinks.on_events(events)
        if step.deltas:
            self._sinks.on_step(step)

    def _run(self) -> None:
        while self._take_inbox():
            try:
                deltas = self._step()
            except Exception as reason:  # noqa: BLE001  one bad step must not end the engine
                # The pass itself failed: whatever the cause, the cache's content is in doubt, the engine is not.
                _log.exception("step_failed")
                deltas = self._fail_all(f"{type(reason).__name__}: {reason}")
            events = self._scheduler.pool.take_events()
            if deltas or events:
                step = Step(
                    deltas, len(self._scheduler.running), len(self._scheduler.waiting), self._scheduler.pool.used
                )
                self._call(self._tell, step, events)

    def _call(self, told: Callable[[Step, list[KvEvent]], None], step: Step, events: list[KvEvent]) -> None:
        try:
            self._loop.call_soon_threadsafe(told, step, events)
        except RuntimeError:
            # The loop is closed: the process is on its way out without `stop`.
            self._inbox.put(None)

    def _take_inbox(self) -> bool:
        """Take what has come in, waiting only when there is nothing to do; return False at the end."""
        try:
            item = self._inbox.get(timeout=self._patience())
            while True:
                if item is None:
                    return False
                if isinstance(item, Sequence):
                    self._sequences[item.id] = item
                    self._scheduler.add(item)
                elif item in self._sequences:
                    self._scheduler.remove(self._sequences.pop(item))
                item = self._inbox.get_nowait()
        except queue.Empty:
            return True

    def _patience(self) -> float | None:
        """Return how long the thread may sleep: 0 to not at all, None to the next request."""
        if any(not sequence.on_hold for sequence in self._scheduler.running):
            return 0
        if self._transfer is not None and self._transfer.patience_s is not None:
            return self._transfer.patience_s
        return 0 if self._scheduler.waiting else None

    def _step(self) -> list[Delta]:
        """Run one step of everything and return what it brought."""
        if self._transfer is not None:
            self._transfer.poll()
        for sequence in self._scheduler.admit():
            if sequence.transfer is not None and self._transfer is not None:
                self._transfer.begin(sequence)
        works = self._scheduler.plan()
        if not works:
            return []
        step = build_step(works, self._settings.block_tokens)
        logits = self._model.forward(step.batch)
        self.steps += 1
        for work in works:
            self._scheduler.advance(work)
        if all(sequence.sampler.plain for sequence in step.sequences):
            picked = logits.argmax(axis=-1).tolist()
            return [self._extend(sequence, token) for sequence, token in zip(step.sequences, picked, strict=True)]
        return [self._pick(sequence, row) for sequence, row in zip(step.sequences, logits, strict=True)]

    def _pick(self, sequence: Sequence, logits: Floats) -> Delta:
        wanted = sequence.sampling.logprobs
        if wanted is None:
            return self._extend(sequence, sequence.sampler.pick(logits))
        logprobs = log_probabilities(logits)
        token = sequence.sampler.pick(logits)
        delta = self._extend(sequence, token)
        delta.logprobs = [report(logprobs, token, wanted)]
        return delta

    def _extend(self, sequence: Sequence, token: int) -> Delta:
        """Append a token, and take the sequence out when it is its last."""
        sequence.tokens.append(token)
        produced = len(sequence.tokens) - sequence.prompt_tokens
        sampling = sequence.sampling
        delta = Delta(sequence.id, [token])
        self._output_tokens += 1
        if produced == 1:
            delta.cached_tokens = sequence.cached_tokens
            self._prompt_tokens += sequence.prompt_tokens
            self._cached_tokens += sequence.cached_tokens or 0
        if token in self._architecture.end_tokens and not (sampling.ignore_eos and sequence.sampler.grammar is None):
            delta.finish = FinishReason.STOP
        elif sampling.stop_token_ids and token in sampling.stop_token_ids:
            delta.finish = FinishReason.STOP
            delta.stop_token = token
        elif produced == sampling.max_tokens or len(sequence.tokens) >= self._settings.context:
            delta.finish = FinishReason.LENGTH
        if delta.finish:
            if self._transfer is not None and sequence.keep:
                delta.transfer = self._transfer.export(sequence)
            self._forget(sequence)
        return delta

    def _forget(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        del self._sequences[sequence.id]

    def _fail_all(self, reason: str) -> list[Delta]:
        failed = list(self._sequences.values())
        for sequence in failed:
            self._forget(sequence)
        self._scheduler.pool.clear()
        return [Delta(sequence.id, [], finish=FinishReason.ERROR, error=reason) for sequence in failed]
