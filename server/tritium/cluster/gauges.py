"""What an engine counts, told to everybody it works for: once a second while it changes, and not at all while it rests.

look -> GAUGES_EVERY_S -> changed? tell, and look again          unchanged -> the metrics of its own, and rest
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import msgspec

from tritium.backends.engine import LanguageEngine, MeteredEngine
from tritium.cluster.frames import Gauges, OwnMetrics
from tritium.cluster.mirror import CacheMirror

GAUGES_EVERY_S = 1.0
OWN_METRICS_EVERY_S = 5.0
"""How often an engine that works is asked for the metrics it keeps itself, which are many."""


class EngineGauges:
    """The counters of one engine and of its cache's mirror. `more` has what is told beside them, `tell` tells all."""

    def __init__(
        self,
        engine: LanguageEngine,
        mirror: CacheMirror,
        *,
        more: Callable[[], Mapping[str, float]],
        tell: Callable[[Gauges | OwnMetrics], None],
    ) -> None:
        self._engine = engine
        self._mirror = mirror
        self._more = more
        self._tell = tell
        self._told: Mapping[str, float] = {}
        self._told_change = 0
        self._told_own_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """See, in a while, whether there is something to tell."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GAUGES_EVERY_S, self._look)

    def tell_anew(self) -> None:
        """Tell everything now: somebody has come who knows nothing yet."""
        self._told = {}
        self._look()

    def stop(self) -> None:
        """Tell nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self.stop()
        values = {
            **self._engine.metrics(),
            "tritium_kv_orphan_blocks_total": float(self._mirror.orphans),
            **self._more(),
        }
        changed = values != self._told or self._mirror.last != self._told_change
        # What came last is told once the engine rests; until then now and then.
        if not changed or time.monotonic() - self._told_own_s > OWN_METRICS_EVERY_S:
            self._tell_own()
        if changed:
            self._told, self._told_change = values, self._mirror.last
            self._tell(Gauges(values, self._mirror.last))
            self.look()

    def _tell_own(self) -> None:
        if isinstance(self._engine, MeteredEngine):
            self._told_own_s = time.monotonic()
            self._tell(OwnMetrics(msgspec.Raw(msgspec.msgpack.encode(self._engine.own_metrics()))))
