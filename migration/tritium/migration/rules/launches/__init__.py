"""Rules of the files that start Triton."""

from tritium.migration.rules.launches import environment, platforms, probes, starting
from tritium.migration.rules.launches.flags import CloudRepository, OldFlag, UnknownFlag
from tritium.migration.rules.launches.images import ClientImage, CustomImage, ServerImage
from tritium.migration.rules.launches.ranks import Ranks

RULES = (
    *(ServerImage, UnknownFlag, OldFlag, Ranks, CustomImage, ClientImage, CloudRepository),
    *starting.RULES,
    *probes.RULES,
    *environment.RULES,
    *platforms.RULES,
)
