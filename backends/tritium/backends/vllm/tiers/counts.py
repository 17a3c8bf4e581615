"""The tiers' counts in the worker: gathered from vLLM's statistics, told as metric families. Imports no vLLM."""

from typing import Any

from tritium.backends.engine import MetricFamily, MetricValue
from tritium.kv.metrics import STORE_HELP, TIER_HELP

KEY = "tritium_tiers"
"""Under this the counts stand in the payload of vLLM's connector statistics, by who counted."""

DECISIONS = ("tritium_kv_store_onboard_decisions_total", "tritium_kv_store_recompute_decisions_total")


class TierCounts:
    """The newest counts of every worker process of an engine, and of its scheduler."""

    def __init__(self) -> None:
        self._told: dict[str, list[tuple[str, str, float]]] = {}

    def take(self, stats: dict[str, Any]) -> None:
        """Take in the payload of a step."""
        for who, counts in stats.get(KEY, {}).items():
            self._told[who] = [(name, tier, value) for name, tier, value in counts]

    def families(self) -> list[MetricFamily]:
        """Return all counts, summed over the worker processes; nothing where there are no tiers."""
        sums: dict[str, dict[str, float]] = {}
        for counts in self._told.values():
            for name, tier, value in counts:
                by_tier = sums.setdefault(name, {})
                by_tier[tier] = by_tier.get(tier, 0.0) + value
        return [
            MetricFamily(
                name,
                "counter" if name.endswith("_total") else "gauge",
                TIER_HELP.get(name) or STORE_HELP[name],
                [MetricValue("", {"tier": tier} if tier else {}, value) for tier, value in by_tier.items()],
            )
            for name, by_tier in sums.items()
        ]
