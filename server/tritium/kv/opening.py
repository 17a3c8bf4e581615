"""Which tiers of our own a store has, opened from the top; one that is not used is not even imported."""

from tritium.kv.block import tenant_digest
from tritium.kv.level import Level
from tritium.kv.settings import StoreSettings
from tritium.kv.shelf import Shares


def open_levels(settings: StoreSettings) -> list[Level]:
    """Open the tiers, or none of them; raises InvalidArgument and Unavailable as they do."""
    by_tenant = {tenant_digest(name): share for name, share in settings.tenant_shares.items()}
    shares = Shares(settings.tenant_share, by_tenant)
    levels: list[Level] = []
    try:
        if settings.host is not None:
            from tritium.kv.host import HostTier  # noqa: PLC0415  (as the docstring says)

            levels.append(HostTier(settings.host, settings.block_bytes, shares))
        if settings.disk is not None:
            from tritium.kv.disk import DiskTier  # noqa: PLC0415  (as the docstring says)

            levels.append(DiskTier(settings.disk, settings.block_bytes, shares))
        if settings.objects is not None:
            from tritium.kv.objects import ObjectTier  # noqa: PLC0415  (as the docstring says)

            levels.append(ObjectTier(settings.objects, settings.block_bytes, shares))
    except BaseException:
        for level in levels:
            level.close()
        raise
    return levels
