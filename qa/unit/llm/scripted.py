"""Language models without workers: a tokenizer trained on the spot, and a fleet that says what it is told to say.

The fleet really goes step by step on the event loop, honours max_tokens, seeds and log probabilities, counts what is
cancelled, and can be held or made to fail at any token.
"""

import asyncio
from dataclasses import dataclass, field

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from tritium.backends.engine import Delta, EngineInfo, Pooled, Role, TokenLogprob
from tritium.cluster.fleet import GenerationRequest, PoolRequest, RouteReport
from tritium.cluster.spec import parse_mode
from tritium.cluster.standing import FleetReport, RoleChange, WorkerReport
from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import InferenceError, InvalidArgument
from tritium.llm.model import LanguageModel, ModelDefaults
from tritium.llm.models import Served, unknown_model
from tritium.llm.template import ChatTemplate
from tritium.llm.tokenizer import Tokenizer
from tritium.router.choice import Mode, Price
from tritium.router.disaggregation import Thresholds

CORPUS = [
    "a model repository is a folder with one directory for every model that the server can load",
    "the router sends a request to the worker that already holds the blocks of its prompt",
    "tokens become text again: naïve café, über, Ελλάδα, добрый день, 日本語, 🙂👍🏽 and 👩‍👩‍👧",
    "What is a model repository? It is a place. The answer is: yes, no, perhaps.",
] * 4
SPECIAL = ["<|end|>", "<|start|>", "<|user|>", "<|assistant|>", "<|system|>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_level(vocabulary: int = 420) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer (as GPT-2, Llama 3, Qwen), small enough to cut most characters into pieces."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens(["<tool_call>", "  "])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|start|> $A", special_tokens=[("<|start|>", tokenizer.token_to_id("<|start|>"))]
    )
    return tokenizer


def byte_fallback() -> tokenizers.Tokenizer:
    """A SentencePiece-like BPE tokenizer with byte fallback (as Llama 2, Mistral)."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    words = sorted({c for line in CORPUS for c in line if c.isascii() and c != " "} | {"\u2581", "é"})
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *words])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def word_pieces() -> tokenizers.Tokenizer:
    """A tokenizer whose decoder needs its neighbours (as BERT): no table of bytes fits it."""
    words = sorted({word for line in CORPUS for word in line.split()})
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *words, "##s", "##ing", ",", "."])}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def chat_tokenizer(template: str | None = TEMPLATE) -> Tokenizer:
    compiled = ChatTemplate(template, {"bos_token": "<|start|>"}) if template else None
    return Tokenizer(byte_level(), compiled)


POOLED = 16
"""How many numbers an embedding has."""


@dataclass
class Script:
    """What a fleet says to every request, and what goes wrong on the way."""

    reply: str = "a model repository is a folder"
    finish: str = "stop"
    stop_token: int | None = None
    step_tokens: int = 1
    cached_tokens: int = 0
    fail_at: int | None = None
    failure: InferenceError | None = None
    hold_at: int | None = None
    endless: bool = False
    scores: tuple[float, ...] = ()
    """The log probability of every token of the first, the second, ... completion."""


@dataclass
class ScriptedGeneration:
    route: RouteReport | None = None
    cancelled: bool = False
    over: bool = False

    def cancel(self) -> None:
        if not self.over:
            self.cancelled = True


@dataclass
class ScriptedFleet:
    tokenizer: Tokenizer
    script: Script = field(default_factory=Script)
    name: str = "story"
    ready: bool = True
    context_tokens: int = 256
    requests: list[GenerationRequest] = field(default_factory=list)
    generations: list[ScriptedGeneration] = field(default_factory=list)
    changed: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    explained: list[tuple[str, str]] = field(default_factory=list)
    pooled: list[PoolRequest] = field(default_factory=list)
    tasks: tuple[str, ...] = ("generate",)
    modalities: tuple[str, ...] = ()
    closed: bool = False
    structured: bool = True
    structural_tags: bool = False

    def __post_init__(self) -> None:
        self.held = asyncio.Event()
        self.released = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.finished = asyncio.Event()
        self._tasks: set[asyncio.Task] = set()

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            "scripted",
            "1",
            self.context_tokens,
            16,
            64,
            8,
            tasks=self.tasks,
            modalities=self.modalities,
            structured=self.structured,
            structural_tags=self.structural_tags,
        )

    @property
    def end_token(self) -> int:
        return SPECIAL.index("<|end|>")

    def generate(self, request, sink) -> ScriptedGeneration:
        generation = ScriptedGeneration(self.explain(request.token_ids))
        self.requests.append(request)
        self.generations.append(generation)
        task = asyncio.get_running_loop().create_task(self._run(request, sink, generation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return generation

    async def _run(self, request, sink, generation) -> None:
        script = self.script
        place = next(i for i, other in enumerate(self.requests) if other is request)
        reply = self.tokenizer.encode_now(script.reply, add_special=False)
        budget = request.sampling["max_tokens"]
        if script.finish == "stop" and not request.sampling.get("ignore_eos"):
            reply.append(self.end_token if script.stop_token is None else script.stop_token)
        while script.endless and len(reply) < budget:
            reply += reply
        for at in range(0, min(len(reply), budget), script.step_tokens):
            await asyncio.sleep(0)
            if script.fail_at is not None and at >= script.fail_at:
                generation.over = True
                sink.on_failure(script.failure)
                return
            if script.hold_at is not None and at >= script.hold_at:
                self.held.set()
                waits = [asyncio.ensure_future(self.released.wait())]
                while not generation.cancelled and not self.released.is_set():
                    await asyncio.wait(waits, timeout=0.01)
                waits[0].cancel()
            if generation.cancelled:
                self.cancelled.set()
                return
            ids = reply[at : min(at + script.step_tokens, budget)]
            done = at + len(ids)
            finish = None
            if done >= len(reply) and not script.endless:
                finish = script.finish
            elif done >= budget:
                finish = "length"
            generation.over = finish is not None
            sink.on_delta(
                Delta(
                    id=1,
                    token_ids=ids,
                    finish=finish,
                    stop_token=script.stop_token if finish == "stop" else None,
                    cached_tokens=script.cached_tokens if at == 0 else None,
                    logprobs=self._logprobs(ids, request.sampling.get("logprobs"), place),
                    prompt_logprobs=self._prompt_logprobs(request) if at == 0 else None,
                )
            )
        self.finished.set()

    def _logprobs(self, ids, count, place):
        if count is None:
            return None
        others = [TokenLogprob(n + 10, -1.0 - n, n + 2) for n in range(count)]
        mine = -0.25
        if self.script.scores:
            mine = self.script.scores[place % len(self.script.scores)]
        return [[TokenLogprob(i, mine, 1), *others] for i in ids]

    def _prompt_logprobs(self, request):
        count = request.sampling.get("prompt_logprobs")
        if count is None:
            return None
        others = [TokenLogprob(n + 10, -1.0 - n, n + 2) for n in range(count)]
        return [None, *([TokenLogprob(i, -0.5, 1), *others] for i in request.token_ids[1:])]

    def explain(self, token_ids, *, cache_salt="", lora="", worker="", session="") -> RouteReport:
        self.explained.append((cache_salt, lora))
        blocks = len(token_ids) // 16
        price = Price(
            own=1.5, eviction=0, waiting=0, decoding=0, holding=0, history=0, crowding=0, silence=0, slowness=1
        )
        return RouteReport(worker or "worker_0", f"overlap 0/{blocks} blocks, 0 active", 0, blocks, 1.5, price)

    async def change(self, setting: str, workers) -> FleetReport:
        if setting == "prefill=9":
            raise InvalidArgument("fleet: nine are too many", hint="write fewer")
        self.changed.append((setting, dict(workers)))
        report = WorkerReport("worker_0", Role.AGGREGATED, "ready", 0)
        change = RoleChange("worker_0", Role.DECODE, Role.AGGREGATED, restarted=False, seconds=0.5)
        return FleetReport("1 worker", Mode.KV, Thresholds(), [report], [change] if workers else [])

    def route_by(self, mode: str) -> str:
        self.router = parse_mode(mode).value
        return self.router

    async def pool(self, request: PoolRequest) -> Pooled:
        """Say how often each token comes (embed), where (token_embed), or how many there are (classify, score)."""
        self.pooled.append(request)
        await asyncio.sleep(0)
        if self.script.failure is not None:
            raise self.script.failure
        if self.script.hold_at is not None:
            self.held.set()
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return _pooled(request)

    def metrics(self):
        return []

    async def close(self) -> None:
        self.closed = True


def _pooled(request: PoolRequest) -> Pooled:
    counts = np.zeros((len(request.token_ids), POOLED), dtype="<f4")
    counts[np.arange(len(request.token_ids)), np.array(request.token_ids) % POOLED] = 1
    match request.task:
        case "token_embed":
            array = counts
        case "embed":
            array = counts.sum(axis=0)[: request.parameters.get("dimensions", POOLED)]
        case "classify":
            array = np.array([0.25, 0.5, 0.25], dtype="<f4")
        case _:
            array = np.array([len(request.token_ids) / 1000], dtype="<f4")
    return Pooled(1, list(array.shape), np.ascontiguousarray(array).tobytes())


class OneModel:
    """The lookup of a server with one language model and its adapters."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.asked = []
        self.starting = False

    async def load(self, name: str) -> None:
        self.find(name)
        self.asked.append(("load", name))

    async def unload(self, name: str) -> None:
        self.find(name)
        self.asked.append(("unload", name))

    def find(self, name: str) -> Served:
        for served in self.all():
            if served.name == name:
                return served
        raise unknown_model(name)

    def offered(self) -> list:
        return []

    def all(self) -> list[Served]:
        return [Served(self.model.name, self.model)] + [Served(lora, self.model, lora) for lora in self.model.loras]


def language_model(fleet: ScriptedFleet, defaults: ModelDefaults | None = None) -> LanguageModel:
    proto = model_config_pb2.ModelConfig(name=fleet.name, backend="vllm")
    return LanguageModel(from_proto(proto), "1", fleet, fleet.tokenizer, defaults)
