"""For engines that stream every sequence by itself: a task a sequence, and one Step of what a turn of the loop brings.

submit -> task: async for delta in stream(request) -> put ... -> on_step(Step)
abort  -> the task is cancelled: no further word of it
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from tritium.backends.engine import Delta, FinishReason, Generate, Step
from tritium.core.errors import InferenceError, InvalidArgument, Unsupported


@dataclass(slots=True)
class EngineLoad:
    """How much an engine has to do, as it last said, and what it has done."""

    running: int = 0
    waiting: int = 0
    used_blocks: int = 0
    total_blocks: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def metrics(self) -> dict[str, float]:
        """Return it by metric name."""
        return {
            "tritium_engine_running": self.running,
            "tritium_engine_waiting": self.waiting,
            "tritium_engine_prompt_tokens_total": self.prompt_tokens,
            "tritium_engine_cached_prompt_tokens_total": self.cached_tokens,
            "tritium_engine_output_tokens_total": self.output_tokens,
            "tritium_engine_kv_used_blocks": self.used_blocks,
            "tritium_engine_kv_total_blocks": self.total_blocks,
        }


class Streams:
    """The sequences under way in one engine, on one event loop.

    `stream` gives the deltas of a sequence; what it raises becomes its last one: InvalidArgument, Unsupported and
    ValueError as the request's fault, all else as the engine's, called `engine` in the words of the error.
    """

    def __init__(
        self,
        engine: str,
        stream: Callable[[Generate], AsyncIterator[Delta]],
        on_step: Callable[[Step], None],
        load: EngineLoad,
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._on_step = on_step
        self._load = load
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._deltas: list[Delta] = []

    def submit(self, request: Generate) -> None:
        """Begin to stream one sequence. Call it on the loop."""
        task = asyncio.get_running_loop().create_task(self._run(request))
        self._tasks[request.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(request.id, None))

    def abort(self, id: int) -> None:  # noqa: A002  the engine contract's name
        """Drop one sequence; unknown ids are ignored."""
        if task := self._tasks.get(id):
            task.cancel()
        self._deltas = [delta for delta in self._deltas if delta.id != id]

    async def close(self) -> None:
        """Drop all sequences."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._deltas.clear()

    async def _run(self, request: Generate) -> None:
        try:
            async for delta in self._stream(request):
                if delta.cached_tokens is not None:
                    self._load.prompt_tokens += len(request.token_ids)
                    self._load.cached_tokens += delta.cached_tokens
                self._load.output_tokens += len(delta.token_ids)
                self._put(delta)
        except (InvalidArgument, Unsupported, ValueError) as error:
            self._put(Delta(request.id, [], FinishReason.ERROR, error=_words(error), invalid=True))
        except InferenceError as error:
            self._put(Delta(request.id, [], FinishReason.ERROR, error=_words(error)))
        except Exception as error:  # noqa: BLE001  one sequence's fault, whatever it is, is told and goes no further
            self._put(Delta(request.id, [], FinishReason.ERROR, error=f"{self._engine}: {_words(error)}"))

    def _put(self, delta: Delta) -> None:
        if not self._deltas:
            asyncio.get_running_loop().call_soon(self._flush)
        self._deltas.append(delta)

    def _flush(self) -> None:
        deltas, self._deltas = self._deltas, []
        if deltas:
            load = self._load
            self._on_step(Step(deltas, load.running, load.waiting, load.used_blocks))


def _words(error: Exception) -> str:
    return error.told if isinstance(error, InferenceError) else str(error) or type(error).__name__
