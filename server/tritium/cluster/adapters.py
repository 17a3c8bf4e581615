"""LoRA adapters that are loaded while a fleet serves.

    load(name, path) -> every ready worker -> known: workers that start again load it too
    unload(name)     -> forgotten by all

The engines know an adapter by a key that stands for one path for good: a name that is loaded again, also after it was
unloaded, gets another key, so that no engine and no router takes blocks computed with the old weights for the new ones.
Where other servers use the same engines, keys carry a stamp that no other server's have.
"""

import asyncio
import itertools

from tritium.cluster.pool import WorkerPool
from tritium.core.errors import InferenceError, InvalidArgument, NotFound, Unavailable


class Adapters:
    """The adapters of one fleet. Loading and unloading come one after another."""

    def __init__(self, pool: WorkerPool, *, stamp: str = "") -> None:
        self._pool = pool
        self._stamp = stamp
        self._keys: dict[str, str] = {}
        self._used: set[str] = set()
        """Names that were keys themselves once."""
        self._numbers = itertools.count(2)
        self._turn = asyncio.Lock()

    def key(self, name: str) -> str:
        """Return what the engines call an adapter; those from multi_lora.json they call by their name."""
        return self._keys.get(name, name)

    async def load(self, name: str, path: str) -> None:
        """Load an adapter in every worker; on failure none has it.

        Raises:
            InvalidArgument: the engine takes no adapters at run time, or not this one.
            Unavailable: no worker is ready.
        """
        self._check()
        async with self._turn:
            key = f"{name}@{self._stamp}{next(self._numbers)}" if self._stamp or name in self._used else name
            ready = [worker for worker in self._pool.by_name.values() if worker.ready]
            if not ready:
                raise Unavailable(f"no worker is ready to load the adapter '{name}'", hint="try again in a while")
            self._used.add(name)
            # Listed first, so that a worker that gets ready meanwhile has it as well.
            self._pool.loras[key] = path
            told = await asyncio.gather(*(worker.load_lora(key, path) for worker in ready), return_exceptions=True)
            failures = [answer for answer in told if isinstance(answer, BaseException)]
            if failures:
                await self._drop(key)
                raise failures[0]
            before, self._keys[name] = self._keys.get(name), key
            if before is not None:
                await self._drop(before)

    async def unload(self, name: str) -> None:
        """Forget an adapter that was loaded here.

        Raises:
            NotFound: no adapter of that name was loaded.
        """
        async with self._turn:
            if name not in self._keys:
                raise NotFound(f"no adapter '{name}' was loaded", hint=f"loaded are: {', '.join(self._keys) or 'none'}")
            await self._drop(self._keys.pop(name))

    async def _drop(self, key: str) -> None:
        del self._pool.loras[key]
        ready = [worker for worker in self._pool.by_name.values() if worker.ready]
        told = await asyncio.gather(*(worker.unload_lora(key) for worker in ready), return_exceptions=True)
        for answer in told:
            # A worker that could not forget it costs memory, not truth: nobody asks for the key any more.
            if isinstance(answer, BaseException) and not isinstance(answer, InferenceError):
                raise answer

    def _check(self) -> None:
        info = self._pool.info
        if not info.lora:
            raise InvalidArgument(
                f"the engine {info.engine} takes no adapters at run time",
                hint='vllm does, with "enable_lora": true in model.json'
                if info.engine == "vllm"
                else "serve it by vllm",
            )
