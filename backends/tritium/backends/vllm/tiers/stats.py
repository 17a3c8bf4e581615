"""What the tiers count, on its way through vLLM's statistics to the worker's metrics."""

from collections.abc import Mapping
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats

from tritium.backends.vllm.tiers.counts import DECISIONS, KEY
from tritium.kv.metrics import tier_samples
from tritium.kv.stats import StoreStats


class TierStats(KVConnectorStats):
    """Counts since the start, by who counted: the newest of each says all. `data` is `{KEY: {who: [[...], ...]}}`."""

    @classmethod
    def of_store(cls, rank: int, stats: StoreStats) -> "TierStats":
        """Return the counts of one worker process; its store is not asked for advice."""
        told = [
            [sample.name, sample.tier.value if sample.tier else "", sample.value]
            for sample in tier_samples(stats)
            if sample.name not in DECISIONS
        ]
        return cls({KEY: {f"rank {rank}": told}})

    @classmethod
    def of_decisions(cls, advised: Mapping[str, int]) -> "TierStats":
        """Return the scheduler's counts, by their metrics' names."""
        return cls({KEY: {"scheduler": [[name, "", count] for name, count in advised.items()]}})

    def reset(self) -> None:
        """Forget all."""
        self.data = {}

    def aggregate(self, other: KVConnectorStats) -> "TierStats":
        """Take in the counts of others, and newer ones of the same."""
        return TierStats({KEY: {**self.data.get(KEY, {}), **other.data.get(KEY, {})}})

    def reduce(self) -> dict[str, int | float]:
        """Return blocks held and hit by tier, for vLLM's log."""
        told: dict[str, int | float] = {}
        for counts in self.data.get(KEY, {}).values():
            for name, tier, value in counts:
                if name in {"tritium_kv_tier_blocks", "tritium_kv_tier_hits_total"}:
                    told[f"{name} {tier}"] = told.get(f"{name} {tier}", 0) + value
        return told

    def is_empty(self) -> bool:
        """Return whether nothing is told."""
        return not self.data


class NoPromMetrics(KVConnectorPromMetrics):
    """Adds nothing to vLLM's own metrics: the worker tells these as its own."""

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Ignore."""
