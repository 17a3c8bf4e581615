"""What a language engine is: it takes token ids and gives tokens back, one step of all its sequences at a time.

An engine runs inside a worker process (`tritium.cluster.worker`) and knows nothing of text, HTTP or routing:

    submit(Generate) ... -> on_step(Step(deltas of every sequence that moved)) ... -> finish reason in the last delta
    abort(id)            -> the sequence's blocks are free again; no further delta of it

A package adds one by an entry point in the group `tritium.engines`; it is called with an EngineSource.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec


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
    scratch: str = ""
    """A folder that is removed with the worker; for sockets and other things an engine leaves behind."""


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
    notes: tuple[str, ...] = ()
    """What the operator should know, such as an argument that was ignored and why."""


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


class BlocksRemoved(msgspec.Struct, array_like=True, tag="removed"):
    """Blocks that left the cache."""

    hashes: list[int]
    tier: str = "device"


class CacheCleared(msgspec.Struct, array_like=True, tag="cleared"):
    """The whole cache was dropped."""


KvEvent = BlocksStored | BlocksRemoved | CacheCleared


@dataclass(frozen=True, slots=True)
class EngineSinks:
    """Where an engine reports, on the event loop that `start` ran on.

    `on_death` says that the engine cannot go on, and why: its process ends and is started again.
    """

    on_step: Callable[[Step], None]
    on_events: Callable[[list[KvEvent]], None]
    on_death: Callable[[str], None] = lambda _: None


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
