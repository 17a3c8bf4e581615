"""A language model as the server sees it: a tokenizer, a template and a fleet of workers, under a repository name.

The OpenAI routes generate through `fleet` and `tokenizer`; KServe's infer, stream and generate come through `submit`
(`llm.facade` has vllm_backend's tensors), so that one loaded model answers every protocol.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tritium.cluster.fleet import Fleet
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import Cancelled, InferenceError, Unavailable
from tritium.core.model import Model
from tritium.core.request import InferRequest, Reply
from tritium.core.statistics import Statistics
from tritium.llm.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What holds where a request says nothing: sampling fields from generation_config.json, and LoRA names."""

    sampling: Mapping[str, Any] = field(default_factory=dict)
    loras: Mapping[str, str] = field(default_factory=dict)
    """Path of each adapter by the name that requests use."""


class LanguageModel(Model):
    """One version of a language model."""

    def __init__(
        self,
        config: ModelConfig,
        version: str,
        fleet: Fleet,
        tokenizer: Tokenizer,
        defaults: ModelDefaults | None = None,
    ) -> None:
        self.name = config.name
        self.version = version
        self.config = config
        self.statistics = Statistics()
        self.fleet = fleet
        self.tokenizer = tokenizer
        self.defaults = defaults or ModelDefaults()
        self.loaded_s = int(time.time())
        self._closing = False

    @property
    def ready(self) -> bool:
        """Tell whether a request submitted now can run."""
        return not self._closing and self.fleet.ready

    def admit(self) -> None:
        """Check that the model takes requests.

        Raises:
            Unavailable: it is being unloaded, or its fleet lacks workers.
        """
        if self._closing:
            raise Unavailable(f"model '{self.name}' is being unloaded")
        if not self.fleet.ready:
            raise Unavailable(f"model '{self.name}' has no worker ready", hint="retry in a few seconds")

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Check the request, queue it, and answer it through `reply`."""
        raise NotImplementedError

    def count(self, started_ns: int, error: InferenceError | None = None) -> None:
        """Count one request that ended now; a generation is all compute, for the engine batches it inside."""
        taken = time.monotonic_ns() - started_ns
        statistics = self.statistics
        if error is not None:
            statistics.fail.add(taken)
            reason = Cancelled.reason if isinstance(error, Cancelled) else error.reason
            statistics.failures[reason] = statistics.failures.get(reason, 0) + 1
            return
        statistics.success.add(taken)
        statistics.compute_infer.add(taken)
        statistics.inference_count += 1
        statistics.execution_count += 1
        statistics.last_inference_ms = time.time_ns() // 1_000_000

    async def close(self) -> None:
        """Refuse new requests, finish those that run, then end the workers."""
        self._closing = True
        await self.fleet.close()
