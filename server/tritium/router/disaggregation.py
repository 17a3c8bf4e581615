"""Whether a prompt is computed by a prefill worker, its KV then moved, or where it will be decoded.

    local_s  = what the decode worker has to compute before it, and the prompt's uncached part
               + STALL_SHARE * the latter, for every sequence decoding there: all wait while it is computed
    remote_s = what waits at the prefill worker, what that one has not cached of the prompt, and the transfer

The times are learnt from first tokens (`router.speed`) and transfers (`router.line`); until there are enough of them
only the thresholds count. The rules are asked in the order of `Reason`; the first that applies decides.
"""

from dataclasses import dataclass
from enum import StrEnum

STALL_SHARE = 0.1
"""What the delay of one decoding sequence counts beside that of the prompt itself: steps that also prefill are long,
but they go on."""


class Reason(StrEnum):
    """What decided; as metrics label it."""

    ENGINE = "engine"
    NO_WORKER = "no_prefill_worker"
    NOT_SENT = "not_sent"
    BLOCK = "less_than_a_block"
    SHORT = "short"
    BUSY_DECODE = "busy_decode"
    QUEUE = "prefill_queue"
    DETOUR = "detour"
    PROBE = "probe"
    """Too long a detour, taken now and then to see whether it still is."""
    UNCACHED = "uncached"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What moves the decision; all may change while a fleet serves."""

    local_prefill_tokens: int = 0
    """Up to so many uncached tokens are computed by the decode worker itself."""
    busy_decode: int = 0
    """From so many sequences under way on, a decode worker computes no prompt that may go elsewhere; 0: never."""
    prefill_queue_tokens: int = 0
    """With more tokens waiting at the prefill worker, the decode worker computes the prompt; 0: however many."""
    detour: float = 3.0
    """How many times as long as local the way over a prefill worker may take, as far as is learnt; 0: however long."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """What counts of the worker that will decode.

    `local_s` is how long the prompt takes there, queue included, and `compute_s` its share in that. `stays` says why
    its prompts cannot be computed elsewhere, "" where they can; `computes` whether it can do so.
    """

    cached_tokens: int = 0
    decoding: int = 0
    local_s: float | None = None
    compute_s: float = 0.0
    stays: str = ""
    computes: bool = True


@dataclass(frozen=True, slots=True)
class Prefiller:
    """What counts of the prefill worker that would be chosen; the times where they are learnt."""

    waiting_tokens: int = 0
    prefill_s: float | None = None
    transfer_s: float | None = None


@dataclass(frozen=True, slots=True)
class PrefillDecision:
    """The answer and its reason; the seconds are those of the formula, where they were learnt and asked for."""

    remote: bool
    reason: Reason
    because: str
    local_s: float | None = None
    remote_s: float | None = None


def settle(
    prompt_tokens: int, block_tokens: int, decoder: Decoder, thresholds: Thresholds, *, prefill_workers: int
) -> PrefillDecision | None:
    """Decide where the prefill workers need not be asked; None where they must be (`weigh`)."""
    uncached = max(0, prompt_tokens - decoder.cached_tokens)
    if not decoder.computes:
        return PrefillDecision(remote=True, reason=Reason.ENGINE, because="the engine's decode workers compute none")
    if decoder.stays:
        return PrefillDecision(remote=False, reason=Reason.NOT_SENT, because=decoder.stays)
    if prefill_workers == 0:
        return PrefillDecision(remote=False, reason=Reason.NO_WORKER, because="no prefill worker is ready")
    if uncached < block_tokens:
        because = f"{uncached} uncached tokens are less than a block"
        return PrefillDecision(remote=False, reason=Reason.BLOCK, because=because)
    if uncached <= (local := thresholds.local_prefill_tokens):
        because = f"{uncached} uncached tokens, up to {local} stay local"
        return PrefillDecision(remote=False, reason=Reason.SHORT, because=because)
    return None


def weigh(prompt_tokens: int, decoder: Decoder, prefiller: Prefiller, thresholds: Thresholds) -> PrefillDecision:
    """Decide between the decode worker and the prefill worker that would be chosen."""
    words = f"{prompt_tokens - decoder.cached_tokens} uncached tokens"
    local_s = remote_s = None
    if decoder.local_s is not None:
        local_s = decoder.local_s + STALL_SHARE * decoder.decoding * decoder.compute_s
    if prefiller.prefill_s is not None and prefiller.transfer_s is not None:
        remote_s = prefiller.prefill_s + prefiller.transfer_s

    def decided(reason: Reason, because: str, *, remote: bool) -> PrefillDecision:
        return PrefillDecision(remote, reason, f"{words}{because}", local_s, remote_s)

    if 0 < thresholds.busy_decode <= decoder.decoding:
        return decided(Reason.BUSY_DECODE, f", {decoder.decoding} decoding there", remote=True)
    waiting, most = prefiller.waiting_tokens, thresholds.prefill_queue_tokens
    if 0 < most < waiting:
        return decided(Reason.QUEUE, f", but {waiting} wait at prefill, more than {most}", remote=False)
    if local_s is None or remote_s is None:
        return decided(Reason.UNCACHED, "", remote=True)
    times = f": remote {remote_s * 1e3:.1f} ms, local {local_s * 1e3:.1f} ms with {decoder.decoding} decoding"
    if 0 < thresholds.detour * local_s < remote_s:
        return decided(Reason.DETOUR, times, remote=False)
    return decided(Reason.UNCACHED, times, remote=True)
