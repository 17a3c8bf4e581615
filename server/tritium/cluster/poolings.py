"""All prompts that a fleet is pooling: each goes to a worker, and comes back as numbers.

    pool -> choose -> submit -> Pooled            worker lost: once more elsewhere, for it computes the same

A pooling has no state worth keeping, so that this is all there is to it.
"""

import asyncio
import itertools
from dataclasses import dataclass, field

from tritium.backends.engine import GENERATE, Pool, Pooled
from tritium.cluster.channel import UNSENDABLE
from tritium.cluster.fleet import PoolRequest
from tritium.cluster.frames import Abort, SubmitPool
from tritium.cluster.pool import WorkerPool
from tritium.cluster.waiting import Waiting
from tritium.core.errors import InferenceError, InvalidArgument, ModelFailed, Overloaded, Unavailable, WorkerLost
from tritium.router.book import Lease

_IDS = itertools.count(1 << 62)
"""Apart from those of generations, which an engine may have beside them."""


@dataclass(slots=True, eq=False)
class _Pooling:
    answer: asyncio.Future[Pooled]
    worker: str
    lease: Lease
    id: int = field(default_factory=_IDS.__next__)


class Poolings:
    """The prompts under way on a pool of workers.

    Contract: what workers answer, their readiness and their loss are reported to `take`, `worker_ready`, `worker_lost`.
    """

    def __init__(self, pool: WorkerPool, model: str, room: Waiting) -> None:
        self._room = room
        self._pool = pool
        self._model = model
        self._under_way: dict[int, _Pooling] = {}
        self._waiting = 0
        self._changed = asyncio.Event()
        self._closing = False

    def __len__(self) -> int:
        """Return how many are under way or wait for a worker."""
        return len(self._under_way) + self._waiting

    async def pool(self, request: PoolRequest) -> Pooled:
        """Pool one prompt; cancelling the call cancels it in the engine.

        Raises:
            InvalidArgument: the model does not do this task, or the engine refuses the request.
            InferenceError: it failed.
        """
        self._check(request)
        tries = 1 + self._pool.spec.moves
        for _ in range(tries):
            try:
                answer = await self._once(request)
            except WorkerLost:
                continue
            if answer.error:
                raise (InvalidArgument if answer.invalid else ModelFailed)(answer.error)
            return answer
        raise WorkerLost(f"{tries} worker{'s were' if tries > 1 else ' was'} lost under the request")

    def take(self, pooled: Pooled) -> None:
        """Hand an answer to whoever asked."""
        pooling = self._under_way.get(pooled.id)
        if pooling is not None and not pooling.answer.done():
            pooling.answer.set_result(pooled)

    def worker_ready(self) -> None:
        """Let those go on that wait for a worker."""
        self._notify()

    def worker_lost(self, worker: str) -> None:
        """Have what the worker was doing done elsewhere."""
        for pooling in self._under_way.values():
            if pooling.worker == worker and not pooling.answer.done():
                pooling.answer.set_exception(WorkerLost(f"worker {worker} died under the request"))

    def busy_with(self, worker: str) -> int:
        """Count the prompts that a worker is pooling."""
        return sum(pooling.worker == worker for pooling in self._under_way.values())

    def refuse(self) -> None:
        """Take no new ones."""
        self._closing = True
        self._notify()

    async def close(self, within_s: float) -> None:
        """Let those under way end; fail what is left after `within_s`."""
        self.refuse()
        answers = [pooling.answer for pooling in self._under_way.values()]
        if answers:
            await asyncio.wait(answers, timeout=within_s)
        for answer in answers:
            if not answer.done():
                answer.set_exception(self._unloading())

    async def _once(self, request: PoolRequest) -> Pooled:
        """Send the prompt to a worker and wait for the numbers."""
        await self._worker_there(request.worker)
        router = self._pool.generating
        if self._room.must_wait(router):
            work = router.expected_blocks(len(request.token_ids), 0)
            await self._room.turn(request.tenant, work, request.priority)
            if self._closing:
                raise self._unloading()
        prompt = router.prompt(request.token_ids, lora=request.lora)
        route = router.choose(prompt, pinned=request.worker)
        pooling = _Pooling(asyncio.get_running_loop().create_future(), route.worker, router.lease(route, prompt))
        self._under_way[pooling.id] = pooling
        within_s = self._pool.spec.token_s
        try:
            self._send(pooling, request)
            async with asyncio.timeout(within_s or None):
                return await pooling.answer
        except TimeoutError:
            words = f"worker {pooling.worker} did not answer within {within_s:g} s"
            raise Unavailable(words, hint="retry later, or raise token_s in the fleet's setting") from None
        finally:
            del self._under_way[pooling.id]
            router.book.release(pooling.lease)
            self._room.opened()
            if pooling.answer.cancelled():
                self._pool.send(pooling.worker, Abort(pooling.id))

    def _send(self, pooling: _Pooling, request: PoolRequest) -> None:
        asked = Pool(
            pooling.id,
            request.token_ids,
            request.task,
            request.lora,
            request.priority,
            dict(request.parameters),
            request.second_at,
        )
        try:
            self._pool.send(pooling.worker, SubmitPool(asked))
        except UNSENDABLE as error:
            raise InvalidArgument(f"the request cannot be sent to a worker: {error}") from None

    async def _worker_there(self, pinned: str) -> None:
        """Wait, within the fleet's bound, until a worker is ready, and the one that the request is pinned to."""
        hold_s = self._pool.spec.hold_s
        self._waiting += 1
        try:
            async with asyncio.timeout(hold_s):
                while not self._closing and (not len(self._pool.generating) or self._pool.coming_back(pinned)):
                    await self._changed.wait()
        except TimeoutError:
            raise Unavailable(
                f"no worker of model '{self._model}' became ready within {hold_s:g} s",
                hint="the server's log says why its workers do not start",
            ) from None
        finally:
            self._waiting -= 1
        if self._closing:
            raise self._unloading()

    def _check(self, request: PoolRequest) -> None:
        """Refuse what no worker could take."""
        info, tokens = self._pool.info, len(request.token_ids)
        if request.task not in info.tasks or request.task == GENERATE:
            raise InvalidArgument(
                f"model '{self._model}' does not {request.task}: its engine {info.engine} loaded it to"
                f" {', '.join(info.tasks)}"
            )
        if not tokens:
            raise InvalidArgument("the text has no tokens")
        if tokens > info.context_tokens:
            raise InvalidArgument(f"the text has {tokens} tokens; the model's context is {info.context_tokens}")
        if len(self) >= self._pool.spec.max_requests:
            words = f"model '{self._model}' has {self._pool.spec.max_requests} requests under way, the most it takes"
            raise Overloaded(words, hint="retry later, or raise max_requests in the fleet's setting")

    def _unloading(self) -> InferenceError:
        return Unavailable(f"model '{self._model}' is unloading")

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
