"""Rules of the files that start Triton."""

from tritium.migration.rules.launches import platforms, starting
from tritium.migration.rules.launches.flags import CloudRepository, OldFlag, UnknownFlag
from tritium.migration.rules.launches.images import ClientImage, CustomImage, ServerImage
from tritium.migration.rules.launches.ranks import Ranks

RULES = (
    *(ServerImage, UnknownFlag, OldFlag, Ranks, CustomImage, ClientImage, CloudRepository),
    *starting.RULES,
    *platforms.RULES,
)
