"""What the two sides of the connector tell each other with every step: pickled by vLLM between its processes."""

from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorWorkerMetadata,
)

from tritium.backends.vllm.tiers.holdings import Change
from tritium.kv.block import Tier
from tritium.kv.speed import Line


@dataclass(frozen=True, slots=True)
class Load:
    """Blocks to fetch for a request that waits for them: their names, and the device's blocks they go to."""

    request: str
    names: list[bytes]
    blocks: list[int]


@dataclass(slots=True)
class StepPlan(KVConnectorMetadata):
    """What a worker is to do beside one step."""

    loads: list[Load] = field(default_factory=list)
    saved_names: list[bytes] = field(default_factory=list)
    saved_blocks: list[int] = field(default_factory=list)
    """The device's blocks that are complete once the step is computed, and are to be saved then."""
    tokens: int = 0
    """How many tokens the step computes."""
    prefill: bool = False
    """Nearly all of them belong to prompts, so that its time says how long prefill takes."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """How long a request's bytes took to come, whole or not."""

    request: str
    seconds: float


@dataclass(slots=True)
class RankReport:
    """What one worker process tells after a step."""

    rank: int
    changes: list[Change] = field(default_factory=list)
    settled: list[bytes] = field(default_factory=list)
    """Blocks whose save is over, whether it went well or not."""
    loads: dict[Tier, Line] = field(default_factory=dict)
    loaded: list[Loaded] = field(default_factory=list)
    prefill: Line | None = None
    """What loads and prefill have been seen to take; None where nothing new was learnt."""


@dataclass(slots=True)
class Report(KVConnectorWorkerMetadata, KVConnectorHandshakeMetadata):
    """What all worker processes tell after a step, and each once at the start: what its tiers hold by then."""

    ranks: list[RankReport]

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "Report":
        """Return what both tell."""
        assert isinstance(other, Report)
        return Report(self.ranks + other.ranks)
