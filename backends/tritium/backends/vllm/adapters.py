"""LoRA adapters of one vLLM: those from the start, and those that come and go while it serves."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tritium.core.errors import InvalidArgument

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM


class VllmAdapters:
    """What requests may name, as vLLM wants it."""

    def __init__(self, llm: "AsyncLLM", paths: Mapping[str, str]) -> None:
        from vllm.lora.request import LoRARequest  # noqa: PLC0415  a worker alone imports vLLM

        self._llm = llm
        self._make = LoRARequest
        self._numbers = itertools.count(1)
        # Adapters from the start are loaded by vLLM with their first request.
        self._known = {name: LoRARequest(name, next(self._numbers), path) for name, path in paths.items()}

    def get(self, name: str) -> "LoRARequest | None":
        """Return the adapter a request names; None for the model itself.

        Raises:
            InvalidArgument: there is no such adapter.
        """
        if not name:
            return None
        if name not in self._known:
            raise InvalidArgument(f"the model has no LoRA adapter '{name}'; it has {', '.join(self._known) or 'none'}")
        return self._known[name]

    async def load(self, name: str, path: str) -> None:
        """Load an adapter now, so that whoever asks for it learns whether it can be used.

        Raises:
            InvalidArgument: vLLM does not take it.
        """
        adapter = self._make(name, next(self._numbers), path)
        try:
            await self._llm.add_lora(adapter)
        except Exception as error:
            # vLLM's engine hands on whatever reading the files raised, as an exception of no class of its own.
            raise InvalidArgument(f"adapter '{name}' cannot be loaded from {path}: {error}") from error
        self._known[name] = adapter

    async def unload(self, name: str) -> None:
        """Forget an adapter; its sequences under way keep what they need of it."""
        if adapter := self._known.pop(name, None):
            await self._llm.remove_lora(adapter.lora_int_id)
