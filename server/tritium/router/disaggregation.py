"""Whether a prompt is prefilled on a prefill worker, its KV then moved, or where it will be decoded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PrefillDecision:
    """The answer and its reason."""

    remote: bool
    because: str


def decide_prefill(
    *, prompt_tokens: int, cached_tokens: int, block_tokens: int, local_tokens: int, prefill_workers: int
) -> PrefillDecision:
    """Decide where to prefill a prompt of which the decode worker holds `cached_tokens`.

    Up to `local_tokens` uncached tokens are prefilled by the decode worker itself. Less than one full block always
    is: there is nothing worth moving.
    """
    uncached = max(0, prompt_tokens - cached_tokens)
    if prefill_workers == 0:
        return PrefillDecision(remote=False, because="no prefill worker is ready")
    if uncached < block_tokens:
        return PrefillDecision(remote=False, because=f"{uncached} uncached tokens are less than a block")
    if uncached <= local_tokens:
        return PrefillDecision(remote=False, because=f"{uncached} uncached tokens, up to {local_tokens} stay local")
    return PrefillDecision(remote=True, because=f"{uncached} uncached tokens")
