"""What every handler of an HTTP port is handed: the server, and the rules of this port."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tritium.compat.restrictions import Api, Restriction
from tritium.core.serving import ServerState
from tritium.http.aside import LargeBodies
from tritium.http.marking import KSERVE, Marking

LoadReport = Callable[[], str]
"""Writes the metrics of the server as Prometheus text."""


@dataclass(frozen=True, slots=True)
class Front:
    """One port.

    `input_bytes` bounds what a request's JSON, its raw tensor or its compressed body comes to; tensors that are
    announced as binary are bounded by the wire alone. `forwarded` names the headers that become request parameters;
    `restricted` the APIs that need a header; `load_report` is asked for ORCA headers; `marking` says where tensors
    begin; `large` reads what would take too long here.
    """

    server: ServerState
    input_bytes: int = 64 << 20
    forwarded: re.Pattern[str] | None = None
    restricted: Mapping[Api, Restriction] = field(default_factory=dict)
    load_report: LoadReport | None = None
    marking: Marking = KSERVE
    large: LargeBodies = field(default_factory=LargeBodies)
