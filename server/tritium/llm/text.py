"""The text of one completion: deltas of token ids in, text that is safe to send out.

    delta -> token ids -> characters -> stop strings -> text

A token that ended the completion (an end token, or one of stop_token_ids) is counted but not shown.
"""

import time

from tritium.backends.engine import Delta, FinishReason
from tritium.llm.detokenize import Detokenizer
from tritium.llm.sampling import Sampling
from tritium.llm.stop import StopMatcher
from tritium.llm.tokenizer import Tokenizer

_TIMED_EVERY = 64
"""A completion's first text is timed, and then one in so many: timing each would cost what it measures."""


class CompletionText:
    """Follows one completion; `finish` is set once it is over."""

    __slots__ = (
        "_detokenizer",
        "_include_stop",
        "_matcher",
        "_min_tokens",
        "_times_s",
        "finish",
        "stop_reason",
        "tokens",
    )

    def __init__(
        self, tokenizer: Tokenizer, sampling: Sampling, prompt: list[int], shown: frozenset[int] = frozenset()
    ) -> None:
        """Begin; special tokens that are `shown` are in the text although `sampling` skips special ones."""
        self._detokenizer: Detokenizer = tokenizer.detokenizer(prompt, skip_special=sampling.skip_special, shown=shown)
        self._matcher = StopMatcher(sampling.stop, include=sampling.include_stop) if sampling.stop else None
        self._include_stop = sampling.include_stop
        self._min_tokens = sampling.min_tokens
        self._times_s = tokenizer.decode_s
        self.tokens = 0
        """How many tokens came, the one that ended it included."""
        self.finish: str | None = None
        self.stop_reason: str | int | None = None
        """The stop string, or the id in stop_token_ids, that ended it; None for an end token or the length."""

    @property
    def holding(self) -> bool:
        """Tell whether part of a character waits for its other bytes."""
        return self._detokenizer.holding

    def push(self, delta: Delta) -> str:
        """Take a delta and return the text it makes safe to send.

        When a stop string ends the completion, `finish` is set though the engine still runs: cancel it there.
        """
        if self.tokens % _TIMED_EVERY:
            return self._take(delta)
        began_s = time.monotonic()
        text = self._take(delta)
        self._times_s.observe(time.monotonic() - began_s)
        return text

    def _take(self, delta: Delta) -> str:
        if self.finish is not None:
            return ""
        token_ids = delta.token_ids
        self.tokens += len(token_ids)
        if delta.finish == FinishReason.STOP and not self._include_stop:
            token_ids = token_ids[:-1]
        text = self._detokenizer.push(token_ids)
        if delta.finish is not None:
            text += self._detokenizer.flush()
        if self._matcher is not None and self.tokens >= self._min_tokens:
            text = self._matcher.push(text)
            if self._matcher.matched is not None:
                self.finish, self.stop_reason = FinishReason.STOP, self._matcher.matched
                return text
            if delta.finish is not None:
                text += self._matcher.flush()
        if delta.finish is not None:
            self.finish, self.stop_reason = delta.finish, delta.stop_token
        return text
