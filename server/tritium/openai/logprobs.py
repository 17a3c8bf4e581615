"""Log probabilities in the two shapes of OpenAI's routes."""

from collections.abc import Sequence

from tritium.backends.engine import TokenLogprob
from tritium.llm.tokenizer import Tokenizer
from tritium.openai.responses import ChatLogprob, ChatLogprobs, CompletionLogprobs, TopLogprob

_FLOOR = -9999.0
"""JSON has no minus infinity; OpenAI writes this for a token that cannot be."""


def likeliest(entries: Sequence[TokenLogprob], count: int) -> list[TokenLogprob]:
    """Return the `count` likeliest of a place's entries, best first (the sampled token may be listed twice)."""
    unique = {entry.token_id: entry for entry in entries}
    return sorted((e for e in unique.values() if e.rank <= count), key=lambda entry: entry.rank)


def chat_logprobs(tokenizer: Tokenizer, places: Sequence[Sequence[TokenLogprob]], top: int) -> ChatLogprobs:
    """Return the entries of the new tokens for a chat."""
    content = []
    for entries in places:
        raw = tokenizer.token_bytes(entries[0].token_id)
        alternatives = [
            TopLogprob(_text(other), _finite(entry.logprob), list(other))
            for entry in likeliest(entries, top)
            for other in (tokenizer.token_bytes(entry.token_id),)
        ]
        content.append(ChatLogprob(_text(raw), _finite(entries[0].logprob), list(raw), alternatives))
    return ChatLogprobs(content)


def completion_logprobs(
    tokenizer: Tokenizer, places: Sequence[Sequence[TokenLogprob]], top: int, offset: int
) -> CompletionLogprobs:
    """Return the columns of the new tokens for a plain completion; `offset` counts the characters before them."""
    columns = CompletionLogprobs([], [], [], [])
    for entries in places:
        token = _text(tokenizer.token_bytes(entries[0].token_id))
        columns.tokens.append(token)
        columns.token_logprobs.append(_finite(entries[0].logprob))
        columns.top_logprobs.append(
            {
                _text(tokenizer.token_bytes(entry.token_id)): _finite(entry.logprob)
                for entry in (*likeliest(entries, top), entries[0])
            }
        )
        columns.text_offset.append(offset)
        offset += len(token)
    return columns


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    return max(logprob, _FLOOR)
