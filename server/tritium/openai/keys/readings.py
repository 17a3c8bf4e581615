"""What the books of API keys report to metrics."""

from collections.abc import Iterator, Mapping

from tritium.openai.keys.ring import KeyRing

Reading = tuple[str, dict[str, str], float]

KEY_HELP: Mapping[str, str] = {
    "tritium_key_requests_total": "Requests let in by an API key",
    "tritium_key_refused_total": "Requests refused because a limit of their API key was reached",
    "tritium_key_active_requests": "Requests of an API key under way",
    "tritium_key_prompt_tokens_total": "Prompt tokens of an API key's requests",
    "tritium_key_answer_tokens_total": "Tokens generated for an API key's requests",
}


def key_readings(keys: KeyRing) -> Iterator[Reading]:
    """Return the readings of every key, by its name."""
    for account in keys.accounts():
        labels = {"key": account.name}
        yield "tritium_key_requests_total", labels, account.requests
        yield "tritium_key_refused_total", labels, account.refused
        yield "tritium_key_active_requests", labels, account.under_way
        yield "tritium_key_prompt_tokens_total", labels, account.prompt_tokens
        yield "tritium_key_answer_tokens_total", labels, account.answer_tokens
