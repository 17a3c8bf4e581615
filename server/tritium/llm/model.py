"""A language model as the server sees it: a tokenizer, a template and a fleet of workers, under a repository name.

The OpenAI routes generate through `fleet` and `tokenizer`; KServe's infer, stream and generate come through `submit`
(`llm.facade` has the tensors), so that one loaded model answers every protocol, and by any of its names.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from tritium.cluster.fleet import Fleet
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from tritium.llm.facade.door import Door
from tritium.llm.facade.surface import Surface
from tritium.llm.facade.vllm import VllmSurface
from tritium.llm.reading.choose import Formats
from tritium.llm.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What holds where a request says nothing: sampling fields, LoRA names, and how long an answer may be."""

    sampling: Mapping[str, Any] = field(default_factory=dict)
    loras: Mapping[str, str] = field(default_factory=dict)
    """Path of each adapter by the name that requests use; those that are there from the start."""
    formats: Formats = field(default_factory=Formats)
    """In which notations the model writes tool calls and reasoning."""
    labels: Mapping[int, str] = field(default_factory=dict)
    """Names of the classes that a classifier tells apart, where config.json has them."""
    most_tokens: int | None = None
    """The most tokens of an answer, whatever a request asks for; None for as many as the context holds."""
    timeout_s: float = 0.0
    """How long a request in tensors may take, to its last token; 0 for any time."""


class LanguageModel(Door):
    """One version of a language model."""

    def __init__(
        self,
        config: ModelConfig,
        version: str,
        fleet: Fleet,
        tokenizer: Tokenizer,
        defaults: ModelDefaults | None = None,
        surface: Surface | None = None,
    ) -> None:
        super().__init__(config, version, surface or VllmSurface())
        self.fleet = fleet
        self.tokenizer = tokenizer
        self.defaults = defaults or ModelDefaults()
        self.loras = dict(self.defaults.loras)
        """Path of each adapter that requests may use now."""
        self.loaded_s = int(time.time())
        self._encoding: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def target(self) -> "LanguageModel":
        """Return the model itself: this is its own name."""
        return self

    @property
    def timeout_s(self) -> float:
        """Return how long a request in tensors may take; 0 for any time."""
        return self.defaults.timeout_s

    @property
    def ready(self) -> bool:
        """Tell whether a request submitted now can run."""
        return not self._closing and self.fleet.ready

    def admit(self) -> None:
        """Check that the model takes requests; while its workers restart it does, for the fleet holds them.

        Raises:
            Unavailable: it is being unloaded.
        """
        if self._closing:
            raise Unavailable(f"model '{self.name}' is being unloaded")

    async def load_lora(self, name: str, path: str) -> None:
        """Load an adapter, or load it anew from another path.

        Raises:
            InferenceError: the name is one of multi_lora.json, or the engine does not take the adapter.
        """
        if name in self.defaults.loras:
            raise AlreadyExists(f"the adapter '{name}' of model '{self.name}' comes from multi_lora.json")
        await self.fleet.load_lora(name, path)
        self.loras[name] = path

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter that was loaded at run time; requests under way with it finish.

        Raises:
            InferenceError: there is no such adapter, or it comes from multi_lora.json.
        """
        if name in self.defaults.loras:
            raise InvalidArgument(
                f"the adapter '{name}' of model '{self.name}' comes from multi_lora.json",
                hint="only adapters loaded at run time can be unloaded",
            )
        if self.loras.pop(name, None) is None:
            raise NotFound(f"model '{self.name}' has no adapter '{name}'")
        await self.fleet.unload_lora(name)

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Let a request run; its workers are not ended before its prompt is encoded."""
        task = asyncio.get_running_loop().create_task(work)
        self._encoding.add(task)
        task.add_done_callback(self._encoding.discard)

    async def close(self) -> None:
        """Refuse new requests, finish those that run, then end the workers."""
        self._closing = True
        if self._encoding:
            await asyncio.wait(self._encoding)
        await self.fleet.close()
