"""What an operator may set for the OpenAI routes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpenAIOptions:
    """Settings of the OpenAI front.

    `api_keys` empty leaves the routes open. `max_inflight` bounds the requests under way (0: no bound; the rest get
    429). `stall_bytes` is how much text may wait for a client that reads too slowly before its generation is
    cancelled.
    """

    api_keys: tuple[str, ...] = ()
    max_inflight: int = 0
    stall_bytes: int = 1 << 20

    def __repr__(self) -> str:
        keys = "***" if self.api_keys else "none"
        return f"OpenAIOptions(api_keys={keys}, max_inflight={self.max_inflight}, stall_bytes={self.stall_bytes})"
