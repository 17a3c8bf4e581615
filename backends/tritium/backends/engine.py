"""What a language engine is: it takes token ids and gives tokens back, one step of all its sequences at a time.

An engine runs inside a worker process (`tritium.cluster.worker`) and knows nothing of text, HTTP or routing:

    submit(Generate) ... -> on_step(Step(deltas of every sequence that moved)) ... -> finish reason in the last delta
    pool(Pool)           -> on_pooled(Pooled), once
    abort(id)            -> what it held is free again; no further word of it

What an engine can do beside generating it says in its EngineInfo; nothing else is asked of it.
A package adds one by an entry point in the group `tritium.engines`; it is called with an EngineSource.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from tritium.backends.transfer.paths import TransferPath

GENERATE = "generate"
POOLING = ("embed", "classify", "score", "token_embed")
"""What engines do: generate tokens, or pool a prompt into numbers."""

LORA_MODULES = "lora_modules"
"""The argument by which an engine is told of adapters: from each one's name to its folder."""


class Role(StrEnum):
    """What a worker of a fleet does."""

    AGGREGATED = "aggregated"
    PREFILL = "prefill"
    DECODE = "decode"


class FinishReason(StrEnum):
    """Why a sequence ended, spelt as OpenAI and vLLM spell it."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class EngineSource:
    """What to load: `folder` is the Hugging Face model folder, `arguments` the rest of model.json, passed on whole."""

    folder: Path
    arguments: Mapping[str, Any] = field(default_factory=dict)
    role: Role = Role.AGGREGATED
    worker: str = "worker_0"
    index: int = 0
    workers: int = 1
    """This is the worker number `index` of so many on this machine: they share its cores."""
    mixed: bool = False
    """Other workers of the fleet have, or may come to have, other roles."""
    path: TransferPath = TransferPath.AUTO
    """By which path KV is to move; the process is confined to it already."""
    check_transfer: bool = False
    """Try how KV moves between processes here, and tell."""
    host: str = ""
    """Where workers on other machines reach this one; "" where all are on one."""
    scratch: str = ""
    """A folder that is removed with the worker; for sockets and other things an engine leaves behind."""

    @property
    def moves_kv(self) -> bool:
        """Tell whether KV may go to other workers of the fleet, or come from them."""
        return self.mixed or self.role is not Role.AGGREGATED


class EngineInfo(msgspec.Struct, frozen=True):
    """What the engine says of itself once it has loaded."""

    engine: str
    version: str
    context_tokens: int
    block_tokens: int
    total_blocks: int
    max_sequences: int
    transfer: str = ""
    """How KV moves to another worker of this engine: "nixl", "shm", or "" where it does not."""
    transfer_path: str = ""
    """By which path that went when it was tried before the worker was ready, and how fast; "" where it was not."""
    transfer_bytes_s: float = 0.0
    notes: tuple[str, ...] = ()
    """What the operator should know, such as an argument that was ignored and why."""
    tasks: tuple[str, ...] = (GENERATE,)
    """What the loaded model does: "generate", and the pooling tasks; an engine with any of those has `pool`."""
    modalities: tuple[str, ...] = ()
    """Which kinds of Media the loaded model takes."""
    media_tokens: dict[str, int] = {}
    """Of which kinds of Media a placeholder becomes as many of the same token as the item is long, and which token that
    is; routers then find what comes after it, too. The keys of such media in events are `Media.key`."""
    lora: bool = False
    """Adapters can be loaded and unloaded while it runs: the engine has `load_lora` and `unload_lora`."""
    structured: bool = True
    """A sequence can be held to a schema, an expression or a grammar: the sampling field `structured_outputs`."""
    structural_tags: bool = False
    """A sequence can be held to a form from a text on that it may or may not come to: `structural_tag` therein."""
    roles: tuple[Role, ...] = ()
    """Which roles this worker can take while it runs, in a fleet with roles; none: it is started again for another."""
    computes_prompts: bool = True
    """A worker that decodes can compute a prompt itself; else every prompt must come with its KV."""
    first_token_moves: bool = False
    """The first token is the prefill worker's, by the sampling of the request, and comes with its KV."""
    resumes: tuple[str, ...] = ()
    """Sampling fields that look back at the output, of which the engine takes up the state of a sequence that another
    worker began (Generate.resumed_tokens): of "presence_penalty", "seed", "structured_outputs" and the like."""


class Media(msgspec.Struct, array_like=True):
    """An image, a sound or a film that a prompt refers to, as its file's bytes."""

    kind: Literal["image", "audio", "video"]
    mime: str
    data: bytes

    @property
    def key(self) -> str:
        """Return a digest of what it is: equal only for equal media."""
        return hashlib.blake2b(self.data, digest_size=16, person=self.kind.encode()).hexdigest()


class Generate(msgspec.Struct, array_like=True):
    """One sequence to generate.

    `sampling` holds vLLM's SamplingParams fields by name, those the client set and no others; an engine refuses
    one it does not know. Stop strings are the front's business and are not among them. `transfer` carries the
    engine's own description of KV held elsewhere, passed on unread (vLLM: kv_transfer_params).
    """

    id: int
    token_ids: list[int]
    sampling: dict[str, Any]
    transfer: dict[str, Any] | None = None
    lora: str = ""
    priority: int = 0
    cache_salt: str = ""
    """Blocks are shared only among sequences of the same salt."""
    media: list[Media] | None = None
    """In the order of their placeholders in the prompt; only kinds among the engine's modalities."""
    keep: bool = False
    """Compute the prompt and one token; keep the KV for another worker and describe it in the last delta."""
    resumed_tokens: int = 0
    """So many at the end of `token_ids` are no prompt: another worker generated them before it was lost. Counts in
    `sampling`, such as `max_tokens`, are of what is left."""


class Pool(msgspec.Struct, array_like=True):
    """One prompt to turn into numbers.

    `task` is one of the engine's tasks: embed (one vector), classify (a probability a class), score (how well the
    second text of a pair answers the first; one number) or token_embed (a vector a token). `parameters` are vLLM's
    PoolingParams fields by name: `dimensions`, `use_activation`.
    """

    id: int
    token_ids: list[int]
    task: str
    lora: str = ""
    priority: int = 0
    parameters: dict[str, Any] = {}
    second_at: int = 0
    """With score: where the second text begins, for models that tell the two apart by segments; 0 where they do not."""


class Pooled(msgspec.Struct, array_like=True, tag="pooled"):
    """What became of one Pool: float32 little-endian `data` of `shape`, or `error`."""

    id: int
    shape: list[int] = []
    data: bytes = b""
    cached_tokens: int = 0
    error: str | None = None
    invalid: bool = False
    """With `error`: the request is at fault, not the engine."""


class TokenLogprob(msgspec.Struct, array_like=True):
    """The log probability of a token and its rank (1: the likeliest)."""

    token_id: int
    logprob: float
    rank: int


class Delta(msgspec.Struct, array_like=True):
    """What one step added to one sequence.

    `logprobs` has, for every new token, the sampled token first and then the likeliest ones asked for.
    `cached_tokens` counts prompt tokens not computed here; it is set in the first delta of a sequence.
    """

    id: int
    token_ids: list[int]
    finish: str | None = None
    stop_token: int | None = None
    cached_tokens: int | None = None
    logprobs: list[list[TokenLogprob]] | None = None
    transfer: dict[str, Any] | None = None
    error: str | None = None
    invalid: bool = False
    """With `error`: the request is at fault (a field the engine refuses), not the engine."""
    prompt_logprobs: list[list[TokenLogprob] | None] | None = None
    """Asked for by the sampling field of that name, in the first delta: for every prompt token itself first and then
    the likeliest; None for the first token, which nothing comes before."""
    prompt_tokens: int | None = None
    """In the first delta, where it is not what was submitted: media became tokens."""
    field: str = ""
    """With `invalid`: the sampling field that the engine refuses, where it is one."""


class Step(msgspec.Struct, array_like=True, tag="step"):
    """The deltas of every sequence that moved since the last step, with the engine's load after it."""

    deltas: list[Delta]
    running: int = 0
    waiting: int = 0
    used_blocks: int = 0


class BlocksStored(msgspec.Struct, array_like=True, tag="stored"):
    """Full blocks that entered the cache; hashes are the engine's own, `token_ids` cover all blocks in order."""

    hashes: list[int]
    parent: int | None
    token_ids: list[int]
    block_tokens: int
    tier: str = "device"
    lora: str = ""
    salt: str = ""
    media: dict[int, str] = {}
    """What stands behind placeholder tokens, by the index in `token_ids` at which it begins."""


class BlocksRemoved(msgspec.Struct, array_like=True, tag="removed"):
    """Blocks that left the cache."""

    hashes: list[int]
    tier: str = "device"


class CacheCleared(msgspec.Struct, array_like=True, tag="cleared"):
    """The whole cache was dropped."""


KvEvent = BlocksStored | BlocksRemoved | CacheCleared


class MetricValue(msgspec.Struct, array_like=True):
    """One value of a metric; `suffix` is what histograms and summaries add to their family's name."""

    suffix: str
    labels: dict[str, str]
    value: float


class MetricFamily(msgspec.Struct, array_like=True):
    """A metric that an engine keeps itself, as Prometheus has it; `kind` is counter, gauge, histogram or summary."""

    name: str
    kind: str
    help: str
    values: list[MetricValue]


@dataclass(frozen=True, slots=True)
class EngineSinks:
    """Where an engine reports, on the event loop that `start` ran on.

    `on_death` says that the engine cannot go on, and why: its process ends and is started again.
    """

    on_step: Callable[[Step], None]
    on_events: Callable[[list[KvEvent]], None]
    on_death: Callable[[str], None] = lambda _: None
    on_pooled: Callable[[Pooled], None] = lambda _: None


class LanguageEngine(Protocol):
    """A language model that is loaded and generates.

    Contract: `submit` and `abort` return at once. Every submitted sequence gets a last delta with `finish` set,
    also when it fails (`finish="error"`, `error` says why), except after `abort`. A failing sequence harms no other.
    """

    async def start(self, sinks: EngineSinks) -> EngineInfo:
        """Load the model and begin to step.

        Raises:
            Exception: the model cannot be loaded; its text is shown to the operator.
        """
        ...

    def submit(self, request: Generate) -> None:
        """Queue one sequence."""
        ...

    def abort(self, id: int) -> None:  # noqa: A002  the field's name
        """Drop one sequence; unknown ids are ignored."""
        ...

    def metrics(self) -> dict[str, float]:
        """Return the engine's counters by metric name, e.g. bytes of KV received from other workers."""
        ...

    async def stop(self) -> None:
        """Free everything."""
        ...


class PoolingEngine(Protocol):
    """What an engine has beside LanguageEngine when its tasks go beyond generating.

    Contract: `pool` returns at once; every Pool gets one Pooled through `on_pooled`, except after `abort`.
    """

    def pool(self, request: Pool) -> None:
        """Queue one prompt."""
        ...


class AdaptableEngine(Protocol):
    """What an engine has beside LanguageEngine when its EngineInfo says `lora`.

    Contract: requests name adapters as these calls did, and a name stands for one path until it is unloaded.
    """

    async def load_lora(self, name: str, path: str) -> None:
        """Load an adapter.

        Raises:
            InvalidArgument: the path holds no adapter that this model takes.
        """
        ...

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter; sequences under way with it finish. Unknown names are ignored."""
        ...


@runtime_checkable
class MeteredEngine(Protocol):
    """What an engine has beside LanguageEngine when it keeps metrics of its own, under its own names."""

    def own_metrics(self) -> list[MetricFamily]:
        """Return them; called every few seconds while the engine works."""
        ...


@runtime_checkable
class SteppingEngine(Protocol):
    """What an engine has beside LanguageEngine when it counts its steps, those included that give no token.

    By this a worker tells an engine that is stuck from one with a long prompt; of others only deltas are counted.
    """

    @property
    def steps(self) -> int:
        """Return how many steps were taken since the start."""
        ...
