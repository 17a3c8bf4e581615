"""What a server and its workers say to each other: msgpack structs, each after its length in four bytes.

    server                          worker
      Load        ------------------>        which engine, which model
                  <------------------ Ready | Failed
      Submit, SubmitPool, Abort ---->
                  <------------------ Step   the deltas of all sequences of one engine step
                  <------------------ Pooled | CacheChanged | Elsewhere | Gauges | OwnMetrics
      AskCache    ------------------>
                  <------------------ CacheDump   all blocks, for who starts or has missed changes
      LoadLora, UnloadLora --------->
                  <------------------ LoraDone
      Ping        ------------------>
                  <------------------ Pong   the worker's loop turns
      Drain       ------------------>        take nothing new, finish, then end
                  <------------------ Draining   to every front: send nothing new; what runs here finishes
      DrainHeard  ------------------>            nothing new comes after this
      HoldRole, TakeRole, LetRole -->        from a front that changes roles (`cluster.own_role`)
                  <------------------ RoleAnswer, and to every front: RoleTaken

The two ends are always of one release; `version` in Load guards against a worker started by hand that is not.
"""

from typing import Any

import msgspec

from tritium.backends.engine import EngineInfo, Generate, Pool, Pooled, Role, Step
from tritium.backends.transfer.paths import TransferPath

VERSION = 4
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
    stuck_s: float = 0.0
    """How long the engine may make no step while it has work; 0: for ever."""
    canary_s: float = 0.0
    """How long it may be idle before it is asked for a token; 0: not."""
    mixed: bool = False
    """The fleet has, or may come to have, workers of several roles."""
    path: TransferPath = TransferPath.AUTO
    check_transfer: bool = False
    host: str = ""
    """Where workers on other machines reach it; "" where all are on one."""


class Submit(msgspec.Struct, array_like=True, tag="submit"):
    """Generate one sequence."""

    request: Generate


class SubmitPool(msgspec.Struct, array_like=True, tag="pool"):
    """Pool one prompt."""

    request: Pool


class Abort(msgspec.Struct, array_like=True, tag="abort"):
    """Drop one sequence, or one prompt that is pooled."""

    id: int


class LoadLora(msgspec.Struct, array_like=True, tag="load_lora"):
    """Load an adapter."""

    id: int
    name: str
    path: str


class UnloadLora(msgspec.Struct, array_like=True, tag="unload_lora"):
    """Forget an adapter."""

    id: int
    name: str


class Ping(msgspec.Struct, array_like=True, tag="ping"):
    """Ask for a sign of life."""


class Drain(msgspec.Struct, array_like=True, tag="drain"):
    """Finish what runs, at most `grace_s` long, then end."""

    grace_s: float


class DrainHeard(msgspec.Struct, array_like=True, tag="drain_heard"):
    """Nothing new comes: what was under way when Draining arrived is before this."""


class HoldRole(msgspec.Struct, array_like=True, tag="hold_role"):
    """Let no other front change the worker's role until LetRole, or until the connection ends."""

    id: int


class TakeRole(msgspec.Struct, array_like=True, tag="take_role"):
    """Take a role; only for who holds it."""

    id: int
    role: Role


class LetRole(msgspec.Struct, array_like=True, tag="let_role"):
    """Others may change the role again."""


class AskCache(msgspec.Struct, array_like=True, tag="ask_cache"):
    """Ask for a CacheDump, and say whether changes are to come by this connection, or do so by another way."""

    changes_here: bool = True


class Ready(msgspec.Struct, array_like=True, tag="ready"):
    """The model is loaded."""

    info: EngineInfo


class Failed(msgspec.Struct, array_like=True, tag="failed"):
    """The model cannot be loaded, and why."""

    message: str


class Entered(msgspec.Struct, array_like=True, tag="entered"):
    """Blocks that entered a tier of the worker's cache, by the hashes of `router.blocks`."""

    blocks: list[int]
    tier: str = "device"


class Left(msgspec.Struct, array_like=True, tag="left"):
    """Blocks that left a tier."""

    blocks: list[int]
    tier: str = "device"


class Emptied(msgspec.Struct, array_like=True, tag="emptied"):
    """The whole cache was dropped."""


Change = Entered | Left | Emptied


class CacheChanged(msgspec.Struct, array_like=True, tag="cache_changed"):
    """What changed in the worker's cache, in order. The first of a run is number 1; a missing number was lost."""

    number: int
    changes: list[Change]


class CacheDump(msgspec.Struct, array_like=True, tag="cache_dump"):
    """All that the worker's cache holds, as `router.dump` writes it."""

    data: bytes


class Taken(msgspec.Struct, array_like=True):
    """A request that a worker was given: its blocks by our hashes, and how many it has to compute."""

    id: int
    blocks: list[int]
    prompt_blocks: int
    compute_blocks: int
    max_tokens: int = 0
    prefilled: bool = False
    """The prompt is computed already, here or elsewhere."""


class Elsewhere(msgspec.Struct, array_like=True, tag="elsewhere"):
    """What other fronts have the worker do: taken since the last time, prompts computed, and what is over, by id."""

    taken: list[Taken]
    prefilled: list[int]
    over: list[int]


class Gauges(msgspec.Struct, array_like=True, tag="gauges"):
    """The engine's counters, sent when they have changed, and the number of the last change of its cache."""

    values: dict[str, float]
    last_change: int = 0


class OwnMetrics(msgspec.Struct, array_like=True, tag="own_metrics"):
    """The metrics that the engine keeps itself, a list of MetricFamily; decoded only when somebody reads them."""

    families: msgspec.Raw


class LoraDone(msgspec.Struct, array_like=True, tag="lora_done"):
    """What became of a LoadLora or UnloadLora; an empty error is success."""

    id: int
    error: str = ""
    invalid: bool = False


class RoleAnswer(msgspec.Struct, array_like=True, tag="role_answer"):
    """What became of a HoldRole or TakeRole; an empty error is success.

    `restarts`: the worker drains, and starts itself anew in the role.
    """

    id: int
    error: str = ""
    restarts: bool = False


class RoleTaken(msgspec.Struct, array_like=True, tag="role_taken"):
    """The worker's role, and how often it has changed in this run: told first of all, and when it changes."""

    role: Role
    number: int


class Pong(msgspec.Struct, array_like=True, tag="pong"):
    """A sign of life."""


class Draining(msgspec.Struct, array_like=True, tag="draining"):
    """The worker is about to leave: it finishes what it has."""


ToWorker = (
    Load
    | Submit
    | SubmitPool
    | Abort
    | LoadLora
    | UnloadLora
    | Ping
    | AskCache
    | Drain
    | DrainHeard
    | HoldRole
    | TakeRole
    | LetRole
)
FromWorker = (
    Ready
    | Failed
    | Step
    | Pooled
    | CacheChanged
    | CacheDump
    | Elsewhere
    | Gauges
    | OwnMetrics
    | LoraDone
    | RoleAnswer
    | RoleTaken
    | Pong
    | Draining
)
