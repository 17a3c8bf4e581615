"""Notices an engine that makes no step though it has work, and gives an idle one a little, to see whether it would.

    look -> a step since? -> look ...      has work, and no step for `stuck_s`  -> on_stuck, once
                                           has no work, for `canary_s`          -> canary: one token

It beats in the worker itself, beside the engine: a process whose own loop stands still is found by `cluster.pulse`.
Looks are counted, not seconds, so that a machine that was held up takes nobody for dead.
"""

import asyncio
import math
from collections.abc import Callable

LOOKS = 4
"""So many looks make the shorter of the two times."""

STUCK_STATUS = 70
"""The exit status of a worker whose engine was stuck: what only the worker knows, its server counts."""


class Heartbeat:
    """Watches one engine from `start` to `stop`; a time of 0 switches off what it is for.

    `steps` counts the engine's steps since it started, `working` tells whether anything is asked of it.
    """

    def __init__(
        self,
        stuck_s: float,
        canary_s: float,
        *,
        steps: Callable[[], int],
        working: Callable[[], bool],
        canary: Callable[[], None],
        on_stuck: Callable[[], None],
    ) -> None:
        self._look_s = min((bound_s for bound_s in (stuck_s, canary_s) if bound_s), default=0.0) / LOOKS
        self._stuck_looks = math.ceil(stuck_s / self._look_s) if stuck_s else 0
        self._canary_looks = math.ceil(canary_s / self._look_s) if canary_s else 0
        self._steps = steps
        self._working = working
        self._canary = canary
        self._on_stuck = on_stuck
        self._seen = (0, False)
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch. Harmless when repeated: every front that joins has it begun."""
        if self._look_s and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._look_s, self._look)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        seen = (self._steps(), self._working())
        self._looks = self._looks + 1 if seen == self._seen else 0
        self._seen = seen
        _, working = seen
        if working and self._stuck_looks and self._looks >= self._stuck_looks:
            self._timer = None
            self._on_stuck()
            return
        if not working and self._canary_looks and self._looks >= self._canary_looks:
            self._looks = 0
            self._canary()
        self._timer = asyncio.get_running_loop().call_later(self._look_s, self._look)
