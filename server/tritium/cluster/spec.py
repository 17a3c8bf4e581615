"""The one setting that says how many workers a language model has and how its requests find them.

    workers=2                                two workers that prefill and decode
    prefill=1,decode=2                       disaggregated: KV moves from prefill to decode workers
    prefill=1,decode=1,workers=1             mixed: the third computes and decodes its own
    workers=4,router=round_robin             any of the options below, in any order

It comes from the model's configuration (parameter `fleet`) or from a flag.
"""

from dataclasses import dataclass, fields
from difflib import get_close_matches

from tritium.backends.engine import Role
from tritium.backends.transfer.paths import TransferPath
from tritium.core.errors import InvalidArgument
from tritium.router.admission import Bounds
from tritium.router.choice import Mode
from tritium.router.disaggregation import Thresholds


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """How many workers of each role, and the bounds on what waits for them."""

    workers: int = 1
    """Workers that prefill and decode; beside prefill and decode workers they make a mixed fleet."""
    prefill: int = 0
    decode: int = 0
    router: Mode = Mode.KV
    assumed_s: float = 0.0
    """How long a worker is taken to hold what it was given, for engines that tell nothing of their cache; 0: not."""
    local_prefill_tokens: int = 0
    """Prompts with at most so many uncached tokens are prefilled by the decode worker."""
    busy_decode: int = 0
    """From so many requests under way on, a decode worker is spared every longer prompt; 0: not for that alone."""
    prefill_queue_tokens: int = 0
    """With more tokens waiting at a prefill worker, the decode worker prefills; 0: however many."""
    detour: float = 3.0
    """How many times as long as local the way over a prefill worker may take, as far as that is learnt; 0: however
    long."""
    transfer: TransferPath = TransferPath.AUTO
    """By which path KV moves between workers."""
    max_requests: int = 4096
    """Requests under way or held; more are refused."""
    hold_s: float = 30.0
    """How long a request may wait for a worker to become ready."""
    worker_requests: int = 0
    """Requests a worker is given at once; 0: as many as its engine runs at once. Further ones wait in front."""
    worker_prefill_tokens: int = 0
    """Prompt tokens that may wait to be computed at a worker before it counts as full; 0: any number."""
    max_waiting: int = 0
    """Requests that may wait because every worker is full; 0: any number, within max_requests."""
    max_waiting_tenant: int = 0
    """How many of these may be of one tenant; 0: any number."""
    wait_s: float = 600.0
    """How long a request may wait because every worker is full; 0: for ever."""
    drain_s: float = 30.0
    """How long requests under way may take to finish when the fleet is closed."""
    silent_s: float = 20.0
    """How long a ready worker may give no sign of life before it is killed and started again; 0: for ever."""
    stuck_s: float = 60.0
    """How long a worker's engine may make no step while it has work before it is killed and started again; 0: for
    ever."""
    load_s: float = 3600.0
    """How long a worker may take to load its model, or an adapter, before it is killed; 0: for ever."""
    canary_s: float = 60.0
    """How long a worker may be idle before it is asked for a token, to see whether it still makes them; 0: not."""
    moves: int = 3
    """How many lost workers a request outlives: tried again elsewhere before its first token, continued from its
    tokens afterwards; 0: it fails with its worker."""
    token_s: float = 600.0
    """How long a worker may take to a request's next token, or over its prefill; 0: for ever."""

    @property
    def waiting(self) -> Bounds:
        """Return the bounds on what waits because every worker is full."""
        return Bounds(self.max_waiting, self.max_waiting_tenant, self.wait_s)

    @property
    def thresholds(self) -> Thresholds:
        """Return what moves the decision where a prompt is computed."""
        return Thresholds(self.local_prefill_tokens, self.busy_decode, self.prefill_queue_tokens, self.detour)

    @property
    def roles(self) -> dict[Role, int]:
        """Return how many workers each role has."""
        counts = {Role.PREFILL: self.prefill, Role.DECODE: self.decode, Role.AGGREGATED: self.workers}
        return {role: count for role, count in counts.items() if count}


def parse_fleet(text: str) -> FleetSpec:
    """Read a fleet setting; the empty text is one aggregated worker.

    Raises:
        InvalidArgument: an unknown option, a value that is no number or out of range, or roles that do not combine.
    """
    values = read_options(text)
    if "prefill" in values or "decode" in values:
        if not values.get("prefill") or not values.get("decode"):
            raise InvalidArgument(
                "fleet: a disaggregated fleet needs at least one prefill and one decode worker",
                hint="write prefill=1,decode=1",
            )
        values.setdefault("workers", 0)
    elif values.get("workers", 1) == 0:
        raise InvalidArgument("fleet: workers=0 leaves nobody to answer", hint="write workers=1")
    return FleetSpec(**values)  # type: ignore[arg-type]  # names and types were checked as they were read


def read_options(text: str) -> dict[str, int | float | Mode | TransferPath]:
    """Read the options of a fleet setting by name; how they combine is not looked at.

    Raises:
        InvalidArgument: an unknown option, or a value that is no number or out of range.
    """
    known = {field.name: field.type for field in fields(FleetSpec)}
    values: dict[str, int | float | Mode | TransferPath] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if key not in known:
            close = get_close_matches(key, known, n=1)
            raise InvalidArgument(
                f"fleet: unknown option '{key}'",
                hint=f"did you mean {close[0]}?" if close else f"options are {', '.join(known)}",
            )
        if not sign or key in values:
            raise InvalidArgument(
                f"fleet: {key} {'is given twice' if sign else 'has no value'}", hint=f"write {key}=..."
            )
        match key:
            case "router":
                values[key] = parse_mode(value)
            case "transfer":
                values[key] = _path(value)
            case _:
                values[key] = _number(key, value, whole=known[key] is int)
    return values


def parse_mode(value: str) -> Mode:
    """Read the name of a router's mode.

    Raises:
        InvalidArgument: there is none of that name.
    """
    try:
        return Mode(value.replace("-", "_"))
    except ValueError:
        raise InvalidArgument(f"fleet: unknown router '{value}'", hint=f"one of {', '.join(Mode)}") from None


def _path(value: str) -> TransferPath:
    try:
        return TransferPath(value)
    except ValueError:
        raise InvalidArgument(f"fleet: unknown transfer '{value}'", hint=f"one of {', '.join(TransferPath)}") from None


def _number(key: str, value: str, *, whole: bool) -> int | float:
    try:
        number = int(value) if whole else float(value)
    except ValueError:
        raise InvalidArgument(f"fleet: {key}={value} is not a {'whole ' if whole else ''}number") from None
    if not 0 <= number < float("inf"):
        raise InvalidArgument(f"fleet: {key}={value} is out of range")
    return number
