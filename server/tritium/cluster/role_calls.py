"""What a front asks one worker about its role: to hold it, to take another, to let go; the worker's side is `own_role`.

hold -> HoldRole, take -> TakeRole --RoleAnswer--> done, or refused in the worker's words
                                   `--lost, or no answer in time--> failed
"""

import asyncio
import itertools
from collections.abc import Callable

from tritium.backends.engine import Role
from tritium.cluster.frames import HoldRole, LetRole, RoleAnswer, TakeRole
from tritium.core.errors import Unavailable, WorkerLost

ANSWER_S = 10.0
"""How long a worker may take to answer: it only has to say whether it will."""


class RoleCalls:
    """The calls to one worker; `send` reaches its present connection."""

    def __init__(self, worker: str, send: Callable[[HoldRole | TakeRole | LetRole], None]) -> None:
        self._worker = worker
        self._send = send
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[RoleAnswer]] = {}

    async def hold(self) -> None:
        """Have nobody else change the worker's role until `let`, or until the connection ends.

        Raises:
            Unavailable: another front does, or the worker does not answer.
            WorkerLost: the worker was lost meanwhile.
        """
        await self._call(HoldRole(next(self._numbers)), "it does not say whether its role may be changed")

    async def take(self, role: Role) -> bool:
        """Have the worker take a role, held before; tell whether it starts anew for that, and leaves meanwhile.

        Raises:
            Unavailable: it keeps its role, or does not answer; then it may take it yet.
            WorkerLost: the worker was lost meanwhile.
        """
        return (await self._call(TakeRole(next(self._numbers), role), "it may take the role yet")).restarts

    def let(self) -> None:
        """Let others change the worker's role."""
        self._send(LetRole())

    def answered(self, frame: RoleAnswer) -> None:
        """Take an answer; one that nobody waits for any more is no matter."""
        if (answer := self._answers.get(frame.id)) is not None and not answer.done():
            answer.set_result(frame)

    def lost(self, fate: str) -> None:
        """Fail what is under way; `fate` says how the worker was lost."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(WorkerLost(f"worker {self._worker} was lost while its role changed: {fate}"))

    async def _call(self, frame: HoldRole | TakeRole, unanswered: str) -> RoleAnswer:
        answer: asyncio.Future[RoleAnswer] = asyncio.get_running_loop().create_future()
        self._answers[frame.id] = answer
        self._send(frame)
        try:
            async with asyncio.timeout(ANSWER_S):
                done = await answer
        except TimeoutError:
            raise Unavailable(f"worker {self._worker} has not answered within {ANSWER_S:g} s; {unanswered}") from None
        finally:
            self._answers.pop(frame.id, None)
        if done.error:
            raise Unavailable(f"worker {self._worker}: {done.error}", hint="look how the fleet stands, and ask again")
        return done
