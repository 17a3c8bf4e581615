"""What a block store has done, counted by tier."""

from dataclasses import dataclass, field

from tritium.kv.block import Tier


@dataclass(slots=True)
class TierStats:
    """One tier's content and counts since the store was opened."""

    blocks: int = 0
    used_bytes: int = 0
    capacity_bytes: int = 0
    hits: int = 0
    """Blocks loaded from here."""
    loaded_bytes: int = 0
    load_s: float = 0.0
    """Seconds that threads spent loading."""
    saved_bytes: int = 0
    save_s: float = 0.0
    evicted: int = 0
    """Blocks that left for lack of room."""
    demoted: int = 0
    """Of those written here: the ones that came from the tier above."""
    promoted: int = 0
    """Blocks that were copied here from a tier below."""
    damaged: int = 0
    """Blocks that were not what their checksum says, and were thrown away."""
    faults: int = 0
    """Reads and writes that failed: disk full, store down, too slow."""


@dataclass(slots=True)
class StoreStats:
    """All counts of a store."""

    tiers: dict[Tier, TierStats] = field(default_factory=dict)
    dropped_saves: int = 0
    """Blocks that were not saved: too many under way, or no slot could be freed."""
    refused_loads: int = 0
    """Blocks whose load was refused because too many bytes were under way."""
    misses: int = 0
    """Blocks asked for with `load` that were not there, or did not arrive."""
    filtered: int = 0
    """Blocks not written to a slow tier because they were used too seldom."""
    advised_onboard: int = 0
    advised_recompute: int = 0
    peers: int = 0
    """Other workers whose host tier is being followed."""
    served_blocks: int = 0
    """Blocks of our host tier that peers were given."""
    served_bytes: int = 0
    expired_leases: int = 0
    """Reads of peers that took longer than a lease lasts."""
