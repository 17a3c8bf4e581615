"""How long one request may take, from its arrival to its last token.

handler's task --begins an answer--> the answer --last token--> over
      `- too late: is cancelled          `- too late: fails, before its first byte or within its stream
"""

import asyncio
from collections.abc import Callable

from tritium.openai.errors import TookTooLong


class Deadline:
    """Gives up a request after `within_s`; until an answer takes that over, by cancelling the task that makes this."""

    __slots__ = ("_timer", "error", "give_up")

    def __init__(self, within_s: float) -> None:
        task = asyncio.current_task()
        assert task is not None, "requests of the OpenAI port run in tasks of their own"
        self.error: TookTooLong | None = None
        """What the client is told, once it is too late."""
        self.give_up: Callable[[TookTooLong], object] = lambda _: task.cancel()
        self._timer = asyncio.get_running_loop().call_later(within_s, self._pass, within_s)

    def end(self) -> None:
        """Let the request be: it is over."""
        self._timer.cancel()
        self.give_up = _nothing

    def _pass(self, within_s: float) -> None:
        self.error = TookTooLong(within_s)
        self.give_up(self.error)


def _nothing(_error: TookTooLong) -> None:
    """Give nothing up."""
