"""What fronts that do not use a worker tell it: why not, over a connection that is for nothing else.

front                            worker
  NotTaken(reason)   ------>       tells its operator; forgets it when that front works with it after all
"""

from collections.abc import Callable

import msgspec
import structlog

from tritium.cluster.card import Instance
from tritium.cluster.channel import Channel
from tritium.cluster.plane.address import parse_address
from tritium.cluster.plane.connection import connect
from tritium.cluster.plane.security import PlaneSecurity
from tritium.core.errors import InferenceError

MOST = 256
"""Of so many fronts a worker remembers what they said."""

MOST_CHARACTERS = 2000

log = structlog.get_logger(__name__)


class NotTaken(msgspec.Struct, array_like=True, tag="not_taken"):
    """The front does not use the worker, and why."""

    reason: str


class Refusals:
    """A worker's side: the reasons of fronts that do not use it; `on_refused` is told of each that is new."""

    def __init__(self, on_refused: Callable[[str, str], None] = lambda *_: None) -> None:
        self.reasons: dict[str, str] = {}
        """By the name of the front."""
        self.on_refused = on_refused

    def channel(self, front: str) -> Channel[NotTaken]:
        """Return what reads one connection."""
        channel: Channel[NotTaken] = Channel(
            NotTaken, lambda told: self._take(channel, front, told.reason[:MOST_CHARACTERS]), lambda _: None
        )
        return channel

    def forget(self, front: str) -> None:
        """Forget what a front said: it uses the worker now."""
        self.reasons.pop(front, None)

    def _take(self, channel: Channel[NotTaken], front: str, reason: str) -> None:
        channel.close()
        if self.reasons.get(front) != reason and (front in self.reasons or len(self.reasons) < MOST):
            self.reasons[front] = reason
            self.on_refused(front, reason)


async def tell_refusal(instance: Instance, reason: str, security: PlaneSecurity, front: str) -> None:
    """Tell a worker why this front does not use it; where it cannot be told, the front's own log has to do."""
    channel: Channel[NotTaken] = Channel(NotTaken, lambda _: None, lambda _: None)
    try:
        await connect(parse_address(instance.address), security, "refusal", front, lambda _: channel)
    except InferenceError as error:
        log.debug("refusal_not_told", worker=instance.worker, reason=error.message)
        return
    channel.send(NotTaken(reason))
    channel.close()
