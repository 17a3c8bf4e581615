"""What every handler of a gRPC port is handed: the server, and the rules of this port."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tritium.compat.restrictions import Api, Restriction
from tritium.core.serving import ServerState
from tritium.wire.grpc import Effort


@dataclass(frozen=True, slots=True)
class Front:
    """One port.

    `forwarded` chooses the headers that become parameters of inferences; `restricted` are the protocols that need a
    header; `effort` is what is spent on compressing answers to inferences.
    """

    server: ServerState
    forwarded: re.Pattern[str] | None = None
    restricted: Mapping[Api, Restriction] = field(default_factory=dict)
    effort: Effort = Effort.NONE
