"""What a server and its workers say to each other: msgpack structs, each after its length in four bytes.

    server                          worker
      Load        ------------------>        which engine, which model
                  <------------------ Ready | Failed
      Submit, Abort ---------------->
                  <------------------ Step   the deltas of all sequences of one engine step
                  <------------------ Events | Gauges
      Drain       ------------------>        take nothing new, finish, then end

The two ends are always of one release; `version` in Load guards against a worker started by hand that is not.
"""

from typing import Any

import msgspec

from tritium.backends.engine import EngineInfo, Generate, KvEvent, Role, Step

VERSION = 1
"""Counts changes of the frames that an older worker would misread."""

MAX_FRAME_BYTES = 256 << 20
"""A longer frame is a fault of the sender, not a request."""

LENGTH_BYTES = 4


class Load(msgspec.Struct, array_like=True, tag="load"):
    """Load a model; the first frame to a worker."""

    version: int
    engine: str
    folder: str
    arguments: dict[str, Any]
    role: Role
    worker: str
    index: int = 0
    workers: int = 1


class Submit(msgspec.Struct, array_like=True, tag="submit"):
    """Generate one sequence."""

    request: Generate


class Abort(msgspec.Struct, array_like=True, tag="abort"):
    """Drop one sequence."""

    id: int


class Drain(msgspec.Struct, array_like=True, tag="drain"):
    """Finish what runs, at most `grace_s` long, then end."""

    grace_s: float


class Ready(msgspec.Struct, array_like=True, tag="ready"):
    """The model is loaded."""

    info: EngineInfo


class Failed(msgspec.Struct, array_like=True, tag="failed"):
    """The model cannot be loaded, and why."""

    message: str


class Events(msgspec.Struct, array_like=True, tag="events"):
    """What changed in the worker's KV cache, in order."""

    events: list[KvEvent]


class Gauges(msgspec.Struct, array_like=True, tag="gauges"):
    """The engine's counters, sent when they have changed."""

    values: dict[str, float]


ToWorker = Load | Submit | Abort | Drain
FromWorker = Ready | Failed | Step | Events | Gauges
