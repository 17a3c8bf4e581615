"""Models that have been replaced or unloaded: each finishes the requests it has, then is closed.

An ensemble under way still sends requests to the members it began with, so a member is closed only after the
ensembles retired with it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from tritium.compat.config import messages
from tritium.core.model import Model, State
from tritium.repository.shelf import Shelved

log = structlog.get_logger("tritium.repository")


@dataclass(frozen=True, slots=True, eq=False)
class Retired:
    """A version that no lookup finds any more; `members` are the keys of the models it sends requests to."""

    key: str
    shelved: Shelved
    members: Sequence[str]


class Draining:
    """Closes retired models in the background; `told` hears of each when it is closed."""

    def __init__(self, told: Callable[[Retired], None]) -> None:
        self._told = told
        self._tasks: set[asyncio.Task[None]] = set()

    def retire(self, retired: Sequence[Retired]) -> None:
        """Let these models finish and close, each after those that use it."""
        tasks: dict[int, asyncio.Task[None]] = {}

        async def drain(one: Retired) -> None:
            users = [tasks[id(other)] for other in retired if one.key in other.members and other is not one]
            if users:
                await asyncio.wait(users)
            await self._close(one)

        for one in retired:
            tasks[id(one)] = self._start(drain(one))

    def discard(self, model: Model) -> None:
        """Close a model that never took a request."""
        self._start(model.close())

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return when nothing drains any more, or after `timeout_s`."""
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        while self._tasks:
            left = None if deadline is None else deadline - asyncio.get_running_loop().time()
            if left is not None and left <= 0:
                return
            await asyncio.wait(self._tasks, timeout=left)

    async def _close(self, one: Retired) -> None:
        model, shelved = one.shelved.model, one.shelved
        assert model is not None
        try:
            await model.close()
        finally:
            shelved.state, shelved.reason, shelved.model = State.UNAVAILABLE, messages.UNLOADED, None
            self._told(one)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("model_did_not_close", exc_info=error)
