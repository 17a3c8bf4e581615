"""What context and generation workers tell each other."""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, kw_only=True)
class DisaggregatedParams:
    """Without what multimodal models need."""

    request_type: str | None = None
    first_gen_tokens: list[int] | None = None
    first_gen_log_probs: list[list[dict[int, Any]]] | None = None
    ctx_request_id: int | None = None
    opaque_state: bytes | None = None
    draft_tokens: list[int] | None = None
    disagg_request_id: int | None = None
    ctx_dp_rank: int | None = None
    ctx_info_endpoint: str | None = None

    def __post_init__(self) -> None:
        assert self.request_type in ("context_only", "generation_only", "context_and_generation")
