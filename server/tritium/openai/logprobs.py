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


def chat_logprobs(
    tokenizer: Tokenizer, places: Sequence[Sequence[TokenLogprob]], top: int, *, as_ids: bool = False
) -> ChatLogprobs:
    """Return the entries of the new tokens for a chat; `as_ids` names tokens by their ids."""
    content = []
    for entries in places:
        raw = tokenizer.token_bytes(entries[0].token_id)
        alternatives = [
            TopLogprob(
                _name(tokenizer, entry.token_id, as_ids=as_ids),
                _finite(entry.logprob),
                list(tokenizer.token_bytes(entry.token_id)),
            )
            for entry in likeliest(entries, top)
        ]
        name = _name(tokenizer, entries[0].token_id, as_ids=as_ids)
        content.append(ChatLogprob(name, _finite(entries[0].logprob), list(raw), alternatives))
    return ChatLogprobs(content)


def completion_logprobs(
    tokenizer: Tokenizer,
    places: Sequence[Sequence[TokenLogprob] | None],
    top: int,
    offset: int,
    *,
    prompt: Sequence[int] = (),
    as_ids: bool = False,
) -> CompletionLogprobs:
    """Return the columns of tokens for a plain completion; `offset` counts the characters before them.

    A place of None is that of an echoed prompt's first token: it has no score. `prompt` are the tokens of the places
    that echo it. `as_ids` names tokens by their ids.
    """
    columns = CompletionLogprobs([], [], [], [])
    for at, entries in enumerate(places):
        token_id = entries[0].token_id if entries else prompt[at]
        columns.tokens.append(_name(tokenizer, token_id, as_ids=as_ids))
        columns.text_offset.append(offset)
        offset += len(_text(tokenizer.token_bytes(token_id)))
        if not entries:
            columns.token_logprobs.append(None)
            columns.top_logprobs.append(None)
            continue
        columns.token_logprobs.append(_finite(entries[0].logprob))
        columns.top_logprobs.append(
            {
                _name(tokenizer, entry.token_id, as_ids=as_ids): _finite(entry.logprob)
                for entry in (*likeliest(entries, top), entries[0])
            }
        )
    return columns


def _name(tokenizer: Tokenizer, token_id: int, *, as_ids: bool) -> str:
    return f"token_id:{token_id}" if as_ids else _text(tokenizer.token_bytes(token_id))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    return max(logprob, _FLOOR)
