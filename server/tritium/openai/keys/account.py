"""What one API key has used, and whether it may have more.

admit ---> under way ---> leave          spend: tokens, once they are known
   `-> LimitReached, with the seconds to wait
"""

from tritium.openai.errors import LimitReached
from tritium.openai.keys.bucket import Bucket
from tritium.openai.keys.entry import KeyEntry


class Account:
    """The books of one key. Times are of a monotonic clock, in seconds."""

    def __init__(self, entry: KeyEntry, now_s: float) -> None:
        self.entry = entry
        self.under_way = 0
        self.requests = 0
        self.refused = 0
        self.prompt_tokens = 0
        self.answer_tokens = 0
        self._requests = _bucket(entry.requests_per_minute, now_s)
        self._tokens = _bucket(entry.tokens_per_minute, now_s)

    @property
    def name(self) -> str:
        """Return what the operator calls the key."""
        return self.entry.name

    def admit(self, now_s: float) -> None:
        """Let one request in.

        Raises:
            LimitReached: one of the key's limits is.
        """
        entry = self.entry
        if entry.concurrent is not None and self.under_way >= entry.concurrent:
            raise self._refusal(f"{self.under_way} requests are under way, the most this key may have", 1)
        if self._tokens is not None and (wait_s := self._tokens.seconds_until(0, now_s)):
            raise self._refusal(f"this key has used its {entry.tokens_per_minute} tokens a minute", wait_s)
        if self._requests is not None:
            if wait_s := self._requests.seconds_until(1, now_s):
                raise self._refusal(f"this key has used its {entry.requests_per_minute} requests a minute", wait_s)
            self._requests.take(1, now_s)
        self.requests += 1
        self.under_way += 1

    def leave(self) -> None:
        """Note that a request is over."""
        self.under_way -= 1

    def spend(self, prompt_tokens: int, answer_tokens: int, now_s: float) -> None:
        """Count the tokens of a request; the key may end up owing some."""
        self.prompt_tokens += prompt_tokens
        self.answer_tokens += answer_tokens
        if self._tokens is not None:
            self._tokens.take(prompt_tokens + answer_tokens, now_s)

    def headers(self, now_s: float) -> list[tuple[bytes, bytes]]:
        """Return what is left, under the names by which OpenAI's own answers tell it."""
        found: list[tuple[bytes, bytes]] = []
        for what, bucket in ((b"requests", self._requests), (b"tokens", self._tokens)):
            if bucket is not None:
                left = max(0, int(bucket.level(now_s)))
                found.append((b"x-ratelimit-limit-" + what, b"%d" % bucket.a_minute))
                found.append((b"x-ratelimit-remaining-" + what, b"%d" % left))
                found.append((b"x-ratelimit-reset-" + what, b"%.3fs" % bucket.seconds_until_full(now_s)))
        return found

    def amend(self, entry: KeyEntry, now_s: float) -> None:
        """Go on under a changed entry: counts stay, and of a limit that stayed what is left of it."""
        if entry.requests_per_minute != self.entry.requests_per_minute:
            self._requests = _bucket(entry.requests_per_minute, now_s)
        if entry.tokens_per_minute != self.entry.tokens_per_minute:
            self._tokens = _bucket(entry.tokens_per_minute, now_s)
        self.entry = entry

    def _refusal(self, words: str, retry_s: int) -> LimitReached:
        self.refused += 1
        return LimitReached(words, retry_s)


def _bucket(a_minute: int | None, now_s: float) -> Bucket | None:
    return Bucket(a_minute, now_s) if a_minute is not None else None
