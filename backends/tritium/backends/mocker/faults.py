"""What goes wrong on purpose, for tests of whatever must live with it.

A fault happens once in the life of a worker process, when it has taken so many steps; a worker that was started again
counts from zero.
"""

from typing import Annotated, Literal

import msgspec

Kind = Literal["die", "crash", "freeze", "hang", "slow", "forget"]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`kind` at step `step` of the workers named (all where none is).

    die: the engine says that it cannot go on. crash: the process is killed. freeze: no step is taken for `seconds`
    (0: ever again). hang: the whole process gives no sign of life for `seconds` (0: ever again). slow: steps take
    `factor` as long, at least `least_ms`, for `seconds` (0: from then on). forget: the cache drops what nobody uses.
    """

    kind: Kind
    step: Annotated[int, msgspec.Meta(ge=1)] = 1
    workers: tuple[str, ...] = ()
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    factor: Annotated[float, msgspec.Meta(ge=1)] = 10.0
    least_ms: Annotated[float, msgspec.Meta(ge=0)] = 10.0

    def concerns(self, worker: str) -> bool:
        """Tell whether it happens to this worker."""
        return not self.workers or worker in self.workers
