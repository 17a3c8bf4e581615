"""What several fronts have one engine do, told to each of those that did not ask for it.

    front a: Submit -----> engine           began, first token, over
                             `---> Elsewhere ---------------------> front b, c, ...: `cluster.elsewhere`

Fronts choose by the load they know of. Each knows its own requests at once and those of the others by this, so that
they do not all choose the worker that seemed idle, and send equal prompts to one worker. All that happens in a turn
of the loop is told together, and before the front that asked has its tokens; with a single front nothing is told.
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

from tritium.backends.engine import Generate
from tritium.cluster.frames import Elsewhere, Taken
from tritium.cluster.mirror import CacheMirror
from tritium.router.blocks import hash_blocks, seed_of


class Front(Hashable, Protocol):
    """One for whom the engine works."""

    @property
    def send(self) -> Callable[[Elsewhere], None]:
        """Send it a frame."""
        ...


@dataclass(slots=True)
class _News:
    """What is to be told of the requests of one front."""

    taken: list[Taken] = field(default_factory=list)
    prefilled: list[int] = field(default_factory=list)
    over: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Request:
    """A request under way."""

    front: Front
    asked: Generate
    prefilled: bool = False


class Workload:
    """The requests under way on one engine. Numbers are the engine's; unknown ones are ignored."""

    def __init__(self, mirror: CacheMirror, block_tokens: int) -> None:
        self._mirror = mirror
        self._block_tokens = block_tokens
        self._fronts: set[Front] = set()
        self._requests: dict[int, _Request] = {}
        self._news: dict[Front, _News] = {}

    def join(self, front: Front) -> None:
        """Tell a front from now on, what is under way already first."""
        taken = [self._taken(number) for number in self._requests]
        if taken:
            front.send(Elsewhere(taken, [], []))
        self._fronts.add(front)

    def leave(self, front: Front) -> None:
        """Tell a front nothing any more. Its requests end one by one, as they are aborted."""
        self._fronts.discard(front)

    def begin(self, number: int, front: Front, asked: Generate) -> None:
        """Note a request that is handed to the engine."""
        self._requests[number] = _Request(front, asked)
        if len(self._fronts) > 1:
            self._tell(front).taken.append(self._taken(number))

    def first_token(self, number: int) -> None:
        """Note that a request's prompt is computed. Harmless when repeated."""
        request = self._requests.get(number)
        if request is not None and not request.prefilled:
            request.prefilled = True
            if len(self._fronts) > 1:
                self._tell(request.front).prefilled.append(number)

    def over(self, number: int) -> None:
        """Note that a request has ended, whatever way."""
        request = self._requests.pop(number, None)
        if request is not None and len(self._fronts) > (request.front in self._fronts):
            self._tell(request.front).over.append(number)

    def _tell(self, front: Front) -> _News:
        if not self._news:
            asyncio.get_running_loop().call_soon(self.flush)
        return self._news.setdefault(front, _News())

    def flush(self) -> None:
        """Tell what there is to tell, now."""
        if not self._news:
            return
        told, self._news = self._news, {}
        for owner, news in told.items():
            frame = Elsewhere(news.taken, news.prefilled, news.over)
            for front in tuple(self._fronts):
                if front is not owner:
                    front.send(frame)

    def _taken(self, number: int) -> Taken:
        request = self._requests[number]
        asked = request.asked
        seed = seed_of(salt=asked.cache_salt, lora=asked.lora)
        try:
            blocks = hash_blocks(asked.token_ids, self._block_tokens, seed)
        except OverflowError:  # no tokens; whose request it is hears that from the engine
            blocks = []
        prompt = -(-len(asked.token_ids) // self._block_tokens)
        computed = request.prefilled or asked.transfer is not None
        most = asked.sampling.get("max_tokens")
        return Taken(
            number,
            blocks,
            prompt,
            0 if computed else prompt - self._mirror.held(blocks),
            most if isinstance(most, int) else 0,
            computed,
        )
