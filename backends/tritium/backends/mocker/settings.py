"""The arguments of the mocker: vLLM's own, so that any model.json serves, and the section `mocker`, its alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from tritium.backends.mocker.blocks import BlockManager
from tritium.backends.mocker.faults import Fault
from tritium.backends.mocker.hardware import MODELS, Machine, Precision
from tritium.backends.mocker.journal import Journal
from tritium.backends.mocker.scheduler import Limits
from tritium.backends.mocker.timing import Polynomial, Timing, read_profile
from tritium.core.errors import InvalidArgument

Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]

_CONTEXT = 131_072
_BLOCKS = 16_384


class Timings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A polynomial of one's own, in milliseconds; see timing.Polynomial."""

    base_ms: NotNegative = 0.0
    prompt_base_ms: NotNegative = 0.0
    prompt_token_ms: NotNegative = 0.0
    prompt_square_ms: NotNegative = 0.0
    sequence_ms: NotNegative = 0.0
    context_token_ms: NotNegative = 0.0


class MockerArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `mocker`. Without `gpu`, `timing` or `profile` steps take no time: as fast as it goes."""

    gpu: Literal["h100", "h200", "a100", "l40s"] | None = None
    model: Literal["8b", "70b"] = "8b"
    gpus: Positive = 1
    precision: Precision = "bf16"
    timing: Timings | None = None
    profile: str | None = None
    speedup: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    answer: Literal["words", "any", "echo"] = "words"
    answer_tokens: Positive | None = None
    vocabulary: Annotated[int, msgspec.Meta(gt=16)] | None = None
    watermark: Share = 0.01
    chunked_prefill: bool = True
    host_blocks: Annotated[int, msgspec.Meta(ge=0)] = 0
    host_gib_s: Annotated[float, msgspec.Meta(gt=0)] = 25.0
    transfer_gib_s: Annotated[float, msgspec.Meta(gt=0)] = 20.0
    transfer_latency_ms: NotNegative = 0.0
    kv_bytes: Positive | None = None
    load_s: NotNegative = 0.0
    faults: tuple[Fault, ...] = ()


class EngineArguments(msgspec.Struct, frozen=True):
    """vLLM's engine arguments by name; those not named here mean nothing to a simulation."""

    max_model_len: Positive | None = None
    block_size: Positive = 16
    num_gpu_blocks_override: Positive | None = None
    max_num_seqs: Positive = 1_024
    max_num_batched_tokens: Positive = 8_192
    enable_prefix_caching: bool | None = None
    seed: int | None = None
    mocker: MockerArguments = MockerArguments()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the engine runs with. `timing` None: steps take no time."""

    context: int
    block_tokens: int
    blocks: int
    share_prefixes: bool
    limits: Limits
    timing: Timing | None
    kv_bytes: int
    seed: int
    mocker: MockerArguments


def read_settings(given: Mapping[str, Any], folder: Path) -> Settings:
    """Read the arguments and fill in what they leave open; `folder` is where a relative profile lies.

    Raises:
        InvalidArgument: a value of the wrong type or range, an unknown field of `mocker`, or blocks for less than one
            context.
    """
    try:
        arguments = msgspec.convert(dict(given), EngineArguments)
    except msgspec.ValidationError as reason:
        raise InvalidArgument(f"engine arguments: {reason}") from None
    mocker = arguments.mocker
    machine = Machine(mocker.gpu, mocker.model, mocker.gpus, mocker.precision) if mocker.gpu else None
    kv_bytes = mocker.kv_bytes or MODELS[mocker.model].kv_bytes
    blocks = arguments.num_gpu_blocks_override
    if blocks is None:
        blocks = int(machine.kv_cache_bytes / (kv_bytes * arguments.block_size)) if machine else _BLOCKS
    room = blocks * arguments.block_size
    if arguments.max_model_len is not None and arguments.max_model_len > room:
        raise InvalidArgument(
            f"{blocks} blocks of {arguments.block_size} tokens do not hold one context of {arguments.max_model_len}",
            hint="raise num_gpu_blocks_override, or lower max_model_len",
        )
    return Settings(
        context=arguments.max_model_len or min(_CONTEXT, room),
        block_tokens=arguments.block_size,
        blocks=blocks,
        share_prefixes=arguments.enable_prefix_caching is not False,
        limits=Limits(
            sequences=arguments.max_num_seqs,
            # Less would leave sequences that decode without a token.
            step_tokens=max(arguments.max_num_batched_tokens, arguments.max_num_seqs),
            watermark_blocks=int(mocker.watermark * blocks),
            chunked=mocker.chunked_prefill,
        ),
        timing=_timing(mocker, machine, folder),
        kv_bytes=kv_bytes,
        seed=arguments.seed or 0,
        mocker=mocker,
    )


def block_manager(settings: Settings, journal: Journal) -> BlockManager:
    """Return the empty KV cache of an engine with these settings."""
    return BlockManager(
        settings.blocks,
        settings.block_tokens,
        journal,
        host_blocks=settings.mocker.host_blocks,
        share_prefixes=settings.share_prefixes,
    )


def _timing(mocker: MockerArguments, machine: Machine | None, folder: Path) -> Timing | None:
    given = [name for name in ("gpu", "timing", "profile") if getattr(mocker, name) is not None]
    if len(given) > 1:
        raise InvalidArgument(f"mocker: {' and '.join(given)} each say how long steps take", hint="give one of them")
    if machine is not None:
        return machine.timing()
    if mocker.timing is not None:
        return Polynomial(**msgspec.structs.asdict(mocker.timing))
    return read_profile(folder / mocker.profile) if mocker.profile is not None else None
