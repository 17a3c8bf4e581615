"""What one worker is asked about adapters, and its answers: a frame goes out by number, and its LoraDone comes back.

    load, unload -> LoadLora, UnloadLora --LoraDone--> done, or refused in the engine's words
                                         `--lost, or no answer in time--> failed

`cluster.adapters` does so for all workers of a fleet.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping

import structlog

from tritium.cluster.frames import LoadLora, LoraDone, UnloadLora
from tritium.core.errors import InvalidArgument, ModelFailed, WorkerLost

log = structlog.get_logger(__name__)


class LoraCalls:
    """The calls to one worker; `send` reaches its present run. With `within_s` 0 an answer may take for ever."""

    def __init__(self, worker: str, send: Callable[[LoadLora | UnloadLora], None], within_s: float) -> None:
        self._worker = worker
        self._send = send
        self._within_s = within_s
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[LoraDone]] = {}

    async def load(self, name: str, path: str) -> None:
        """Load an adapter, by a path on the worker's machine.

        Raises:
            InvalidArgument: the engine does not take it.
            ModelFailed: loading it failed, or took too long.
            WorkerLost: the worker was lost meanwhile.
        """
        await self._call(LoadLora(next(self._numbers), name, path))

    async def unload(self, name: str) -> None:
        """Forget an adapter; raises as `load` does."""
        await self._call(UnloadLora(next(self._numbers), name))

    async def bring_up_to(self, loras: Mapping[str, str]) -> None:
        """Load all adapters of the fleet (path by name) in a fresh run, those included that come while this goes on.

        Raises:
            WorkerLost: the worker was lost meanwhile.
        """
        tried: set[str] = set()
        while missing := {name: path for name, path in loras.items() if name not in tried}:
            tried.update(missing)
            for name, path in missing.items():
                try:
                    await self.load(name, path)
                except (InvalidArgument, ModelFailed) as error:
                    # The model itself serves; requests for the adapter are told by the engine that it is not there.
                    log.warning("lora_lost", worker=self._worker, lora=name, error=error.message)

    def answered(self, done: LoraDone) -> None:
        """Take an answer; one that nobody waits for any more is no matter."""
        if (answer := self._answers.get(done.id)) is not None and not answer.done():
            answer.set_result(done)

    def lost(self, fate: str) -> None:
        """Fail what is under way; `fate` says how the worker was lost."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(WorkerLost(f"{self._worker} was lost while it loaded an adapter: {fate}"))

    async def _call(self, frame: LoadLora | UnloadLora) -> None:
        answer = self._answers[frame.id] = asyncio.get_running_loop().create_future()
        self._send(frame)
        try:
            async with asyncio.timeout(self._within_s or None):
                done = await answer
        except TimeoutError:
            words = f"{self._worker}: no answer about the adapter within {self._within_s:g} s"
            raise ModelFailed(words) from None
        finally:
            self._answers.pop(frame.id, None)
        if done.error:
            raise (InvalidArgument if done.invalid else ModelFailed)(f"{self._worker}: {done.error}")
