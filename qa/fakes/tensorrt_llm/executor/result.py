"""What a request has brought so far."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Logprob:
    """Of one token."""

    logprob: float
    rank: int | None = None


@dataclass(slots=True)
class CompletionOutput:
    """Everything, and by the properties `..._diff` what the last step brought."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    prompt_logprobs: list[Any] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    disaggregated_params: Any = None
    _last_token_ids_len: int = 0
    _last_logprobs_len: int = 0

    def start_step(self) -> None:
        """Begin what the properties compare with."""
        self._last_token_ids_len, self._last_logprobs_len = len(self.token_ids), len(self.logprobs)

    @property
    def token_ids_diff(self) -> list[int]:
        return self.token_ids[self._last_token_ids_len :]

    @property
    def logprobs_diff(self) -> list[Any]:
        return self.logprobs[self._last_logprobs_len :]
