"""What an answer tells beside its text, when a request asks: ids of tokens, scores of the prompt, usage as it grows.

None of it is on the fast path: a stream that tells any of it writes every event by the slow one, and the details are
put into the finished events here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from tritium.backends.engine import TokenLogprob
from tritium.llm.tokenizer import Tokenizer
from tritium.openai.responses import PromptScore

_JSON = msgspec.json.Encoder()
_END = b"\n\n"


@dataclass(frozen=True, slots=True)
class Details:
    """What is asked for; `plain` asks for nothing."""

    token_ids: bool = False
    """The ids of the prompt and of the completion (`return_token_ids`)."""
    tokens_as_ids: bool = False
    """Tokens in log probabilities are written as `token_id:N` (`return_tokens_as_token_ids`)."""
    prompt_scores: bool = False
    """The scores of the prompt's tokens in an answer's `prompt_logprobs`."""
    echo_scores: bool = False
    """The scores of the prompt's tokens before those of the completion (`echo` with `logprobs`)."""
    completion: bool = True
    """False where only the prompt is wanted, scored: the engine makes one token that nobody sees."""
    best: int = 0
    """How many of a prompt's completions are given, those of the highest log probability; 0 for all."""
    usage: bool = False
    """Every event of a stream has the usage so far (`continuous_usage_stats`)."""

    @property
    def in_events(self) -> bool:
        """Tell whether the events of a stream have any of it."""
        return self.token_ids or self.usage


NO_DETAILS = Details()


class EventDetails:
    """Puts the details of one choice into its events."""

    def __init__(self, details: Details, prompt: Sequence[int], *, chat: bool) -> None:
        self._details = details
        self._prompt: Sequence[int] | None = prompt if details.token_ids else None
        self._chat = chat
        self._token_ids: list[int] = []
        """Those that no event has told yet."""

    def add(self, events: bytes, token_ids: Sequence[int], tail: bytes, usage: msgspec.Struct | None) -> bytes:
        """Return the events with what belongs to them; `tail` is what each ends with, after its choice."""
        if self._details.token_ids:
            self._token_ids += token_ids
        return b"".join(self._event(event + _END, tail, usage) for event in events.split(_END) if event)

    def _event(self, event: bytes, tail: bytes, usage: msgspec.Struct | None) -> bytes:
        within = beside = b""
        if self._details.token_ids:
            within = b',"token_ids":' + _JSON.encode(self._token_ids)
            self._token_ids = []
            if self._prompt is not None:
                prompt = b',"prompt_token_ids":' + _JSON.encode(self._prompt)
                # vLLM has it beside the choices of a chat, and in the choice of a completion.
                within, beside = (within, prompt) if self._chat else (within + prompt, b"")
                self._prompt = None
        if usage is not None:
            beside += b',"usage":' + _JSON.encode(usage)
        return event[: -len(tail)] + within + tail[:-3] + beside + tail[-3:]


def prompt_scores(
    tokenizer: Tokenizer, places: Sequence[Sequence[TokenLogprob] | None]
) -> list[Mapping[str, PromptScore] | None]:
    """Return the scores of a prompt as vLLM's server has them: for each place, by token id."""
    return [
        None
        if place is None
        else {
            str(one.token_id): PromptScore(
                one.logprob, one.rank, tokenizer.token_bytes(one.token_id).decode("utf-8", "replace")
            )
            for one in place
        }
        for place in places
    ]
