"""What a front knows of one worker's cache: its changes by number, and the dumps that make up for lost ones.

    join -> ask -> CacheDump -> index            from then on: CacheChanged -> index
                       ^                                             |
                       +------- ask <------- a number is missing ----+     (`router.gaps` has the states)

Where changes come by another way than the connection, the worker also tells by the connection how far
it is: what was lost last of all is missed by that, after a grace in which it may still come.
"""

import asyncio
from collections.abc import Callable

import structlog

from tritium.cluster.frames import CacheChanged, CacheDump, Emptied, Entered, Left
from tritium.core.errors import InvalidArgument
from tritium.router.dump import decode
from tritium.router.gaps import EventLine
from tritium.router.router import Router
from tritium.router.tiers import Tier

TIERS = {tier.value: tier for tier in Tier}

GRACE_S = 5.0
"""How long changes may take to come that the worker has told of by the connection."""

log = structlog.get_logger(__name__)


class CacheFollower:
    """One run of one worker, followed by one front; `ask` sends AskCache to it."""

    def __init__(self, router: Router, worker: str, ask: Callable[[], None]) -> None:
        self._router = router
        self._worker = worker
        self._ask = ask
        self._line: EventLine[CacheChanged] = EventLine(1, late=True)
        self._grace: asyncio.TimerHandle | None = None
        self.strange = 0
        """Blocks that the worker has told of in tiers that only a newer release than this knows."""
        ask()

    def close(self) -> None:
        """Stop following: the run has ended."""
        if self._grace is not None:
            self._grace.cancel()

    @property
    def lost(self) -> int:
        """Return how many batches of changes never came."""
        return self._line.lost

    @property
    def healed(self) -> int:
        """Return how many dumps were taken in, the first included."""
        return self._line.healed

    @property
    def behind(self) -> bool:
        """Tell whether a dump is waited for."""
        return self._line.behind

    def hear(self, changed: CacheChanged) -> None:
        """Take in what changed; ask for a dump where something before it is missing."""
        heard = self._line.hear(changed.number, changed)
        if heard.apply:
            self._apply(changed)
        if heard.ask:
            self._missed(changed.number - 1)

    def told(self, number: int) -> None:
        """Note how far the worker is; what has not come after a grace is lost."""
        if number > self._line.last and self._grace is None:
            self._grace = asyncio.get_running_loop().call_later(GRACE_S, self._over, number)

    def _over(self, number: int) -> None:
        self._grace = None
        self.expect(number)

    def expect(self, number: int) -> None:
        """Note that the worker has told of changes up to `number`, some time ago."""
        if self._line.expect(number):
            self._missed(number)

    def heal(self, dump: CacheDump) -> None:
        """Take a dump in, and after it what came since; one that is too old to help is followed by another."""
        try:
            read = decode(dump.data)
            after = self._line.heal(read.last_event)
            if after is None:
                self._ask()
                return
            self._router.restore(self._worker, read)
            if read.strange:
                self._note_strange(read.strange)
        except InvalidArgument as error:
            # Of another release or damaged: the next one would be so, too. What is known stays, as far as it goes.
            log.warning("cache_dump_unreadable", worker=self._worker, error=error.message)
            return
        for changed in after:
            self._apply(changed)

    def _apply(self, changed: CacheChanged) -> None:
        if strange := apply_changes(self._router, self._worker, changed):
            self._note_strange(strange)

    def _note_strange(self, blocks: int) -> None:
        if not self.strange:
            log.warning("cache_tier_unknown", worker=self._worker, blocks=blocks, hint="the worker's release is newer")
        self.strange += blocks

    def _missed(self, number: int) -> None:
        log.warning("cache_changes_lost", worker=self._worker, up_to=number, lost=self._line.lost)
        self._ask()


def apply_changes(router: Router, worker: str, changed: CacheChanged) -> int:
    """Note in a router what changed in a worker's cache; a worker it does not know is no matter.

    Blocks in tiers that are not known here are nobody's; how many of them entered is returned.
    """
    strange = 0
    for change in changed.changes:
        match change:
            case Entered(blocks, tier) if tier in TIERS:
                router.entered(worker, blocks, tier=TIERS[tier])
            case Left(blocks, tier) if tier in TIERS:
                router.removed(worker, blocks, tier=TIERS[tier])
            case Entered(blocks):
                strange += len(blocks)
            case Emptied():
                router.cleared(worker)
    return strange
