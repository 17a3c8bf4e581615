"""What a scheduler asks of the thing that executes batches, and what it is handed."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from tritium.core.implicit_state import SequenceState
from tritium.core.request import InferRequest, Reply


class Job(msgspec.Struct, eq=False):
    """A request on its way through a scheduler, with where its responses go and its moments (ns, monotonic).

    `priority` is the level it waits at (1 comes first; 0 where the model has no levels); from `deadline_ns` on
    its queue policy has given it up (0: never). An instance that wants to execute the request once more (Triton's
    TRITONSERVER_REQUEST_RELEASE_RESCHEDULE) sets `again` before its execution ends, and sends no final response;
    one that answers after that, although the model is not decoupled, sets `later`.
    `state` takes what the server keeps of the responses for the sequence's next request.
    """

    request: InferRequest
    reply: Reply
    batch_size: int = 1
    queued_ns: int = 0
    started_ns: int = 0
    priority: int = 0
    deadline_ns: int = 0
    again: bool = False
    later: bool = False
    state: SequenceState | None = None


class ExecutionTimes(msgspec.Struct, frozen=True, gc=False):
    """How long one execution took in its three parts, in nanoseconds, as Triton's statistics count them."""

    input_ns: int
    infer_ns: int
    output_ns: int


class Instance(Protocol):
    """One executor of one model version.

    Contract: `execute` answers every job through its reply and returns when the instance may be given more
    work; a decoupled model may send further responses after that. It raises nothing: failures of the model are
    sent as errors to the jobs. `depth` is how many executions may be handed over before the first has returned
    (1: one at a time); a scheduler uses more than one only where order and queue limits cannot be observed.
    """

    name: str
    depth: int

    @property
    def healthy(self) -> bool:
        """Tell whether the instance can execute now (a crashed one is restarted and cannot meanwhile)."""
        ...

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes | None:
        """Run one batch; None where nothing ran (every job was refused before the model saw it)."""
        ...

    async def close(self) -> None:
        """Finish what runs, then free everything the instance holds."""
        ...


@runtime_checkable
class PromptInstance(Instance, Protocol):
    """An instance that needs no task to wait for it: 8 µs less a request than one that has only `execute`.

    Contract: `begin` raises nothing, and calls `done` once, on the event loop, when `execute` would have returned;
    that may be before `begin` itself returns.
    """

    def begin(self, jobs: Sequence[Job], done: Callable[[ExecutionTimes | None], None]) -> None:
        """Run one batch."""
        ...
