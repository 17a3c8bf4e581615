"""The metrics that a worker's engine keeps itself, as it last told them: decoded only when somebody reads them."""

import msgspec
import structlog

from tritium.backends.engine import MetricFamily
from tritium.cluster.frames import OwnMetrics

_NONE = msgspec.Raw(msgspec.msgpack.encode([]))

log = structlog.get_logger(__name__)


class LastMetrics:
    """Those of one worker."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._families = _NONE

    def take(self, told: OwnMetrics) -> None:
        """Keep what the worker tells, which lies in a buffer that is used again."""
        self._families = told.families.copy()

    def forget(self) -> None:
        """Keep nothing of a worker that is gone."""
        self._families = _NONE

    def read(self) -> list[MetricFamily]:
        """Return them; none where they cannot be read, for one worker's nonsense must not cost the others theirs."""
        try:
            return msgspec.msgpack.decode(self._families, type=list[MetricFamily])
        except msgspec.DecodeError as error:
            log.warning("metrics_unreadable", worker=self._worker, error=str(error))
            self.forget()
            return []
