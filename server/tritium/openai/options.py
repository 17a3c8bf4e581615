"""What an operator may set for the OpenAI routes."""

from dataclasses import dataclass

from tritium.openai.media.policy import DATA_ONLY, MediaPolicy


@dataclass(frozen=True, slots=True)
class OpenAIOptions:
    """Settings of the OpenAI front.

    `max_inflight` bounds the requests under way (0: no bound; the rest get 429). `ignore_unknown` passes over fields of
    requests that nobody knows, with a warning. `cors_origins` are the web origins whose pages may read the answers.
    `timeout_s` is how long a request may take, to its last token (0: any time).
    `stall_bytes` is how much text may wait for a client that reads too slowly before its generation is cancelled.
    `stored_responses` of up to `stored_bytes` altogether are kept for the Responses API. `media` says from where images
    and their like are fetched.
    """

    max_inflight: int = 0
    ignore_unknown: bool = False
    cors_origins: tuple[str, ...] = ()
    timeout_s: float = 0.0
    stall_bytes: int = 1 << 20
    stored_responses: int = 1000
    stored_bytes: int = 64 << 20
    media: MediaPolicy = DATA_ONLY
