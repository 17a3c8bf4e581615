"""A store's counts as metrics, labelled by tier."""

from collections.abc import Mapping
from dataclasses import dataclass

from tritium.kv.block import Tier
from tritium.kv.stats import StoreStats, TierStats

TIER_HELP: Mapping[str, str] = {
    "tritium_kv_tier_blocks": "Blocks that a tier holds",
    "tritium_kv_tier_used_bytes": "Bytes of the blocks that a tier holds",
    "tritium_kv_tier_capacity_bytes": "Bytes of blocks that a tier has room for",
    "tritium_kv_tier_hits_total": "Blocks loaded from a tier",
    "tritium_kv_tier_loaded_bytes_total": "Bytes loaded from a tier",
    "tritium_kv_tier_load_seconds_total": "Seconds that threads spent loading from a tier",
    "tritium_kv_tier_saved_bytes_total": "Bytes written to a tier",
    "tritium_kv_tier_save_seconds_total": "Seconds that threads spent writing to a tier",
    "tritium_kv_tier_evicted_total": "Blocks that left a tier for lack of room",
    "tritium_kv_tier_demoted_total": "Blocks that came to a tier from the one above",
    "tritium_kv_tier_promoted_total": "Blocks that came to a tier from one below, because they were used again",
    "tritium_kv_tier_damaged_total": "Blocks of a tier that failed their checksum and were thrown away",
    "tritium_kv_tier_faults_total": "Blocks that could not be read from a tier or written to it",
}
STORE_HELP: Mapping[str, str] = {
    "tritium_kv_store_misses_total": "Blocks asked for that no tier gave",
    "tritium_kv_store_dropped_saves_total": "Blocks not saved: too many under way, or no slot free",
    "tritium_kv_store_refused_loads_total": "Blocks not loaded because too many bytes were under way",
    "tritium_kv_store_filtered_total": "Blocks not written to a slow tier because they were used too seldom",
    "tritium_kv_store_onboard_decisions_total": "Prompts of which loading what the tiers hold was advised",
    "tritium_kv_store_recompute_decisions_total": "Prompts that were advised to be computed although tiers hold some",
    "tritium_kv_store_peers": "Other workers whose host tier can be read",
    "tritium_kv_store_served_blocks_total": "Blocks of the host tier that other workers read",
    "tritium_kv_store_served_bytes_total": "Bytes of the host tier that other workers read",
    "tritium_kv_store_expired_leases_total": "Reads of other workers that were given up because they took too long",
}


@dataclass(frozen=True, slots=True)
class TierSample:
    """One value of one metric; `tier` is None for those of the whole store."""

    name: str
    tier: Tier | None
    value: float

    @property
    def help(self) -> str:
        """Return what the metric counts."""
        return TIER_HELP.get(self.name) or STORE_HELP[self.name]


def tier_samples(stats: StoreStats) -> list[TierSample]:
    """Return all metrics of a store."""
    samples = []
    for tier, counts in stats.tiers.items():
        values = _tier_values(counts)
        samples += [TierSample(name, tier, value) for name, value in zip(TIER_HELP, values, strict=True)]
    whole = (
        stats.misses,
        stats.dropped_saves,
        stats.refused_loads,
        stats.filtered,
        stats.advised_onboard,
        stats.advised_recompute,
        stats.peers,
        stats.served_blocks,
        stats.served_bytes,
        stats.expired_leases,
    )
    return samples + [TierSample(name, None, value) for name, value in zip(STORE_HELP, whole, strict=True)]


def _tier_values(counts: TierStats) -> tuple[float, ...]:
    """Return the values in the order of TIER_HELP."""
    return (
        counts.blocks,
        counts.used_bytes,
        counts.capacity_bytes,
        counts.hits,
        counts.loaded_bytes,
        counts.load_s,
        counts.saved_bytes,
        counts.save_s,
        counts.evicted,
        counts.demoted,
        counts.promoted,
        counts.damaged,
        counts.faults,
    )
