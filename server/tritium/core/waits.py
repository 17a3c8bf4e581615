"""Circles of calls: executions that wait for other models, whose instances wait for them in their turn.

An execution that calls a model and waits for it (business logic scripting) goes on when the call is answered, and a
request goes on when some instance of its model does. Where neither can happen any more, the call that closed the circle
is refused: in Triton it would wait for ever.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tritium.core.errors import Internal

if TYPE_CHECKING:
    from tritium.core.instance import Instance
    from tritium.core.request import InferRequest


@runtime_checkable
class Caller(Protocol):
    """An instance whose executions may call other models; `waits` are the calls that hold up the present one."""

    name: str
    waits: set["Wait"]


class Wait:
    """One call that an execution waits for, and where the requests made for it are: queued, or with an instance.

    A call of an ensemble has several requests: its members' carry the wait of the ensemble's own.
    """

    __slots__ = ("_caller", "_held", "_queued")

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._queued: dict[InferRequest, Sequence[Instance]] = {}
        self._held: dict[InferRequest, Caller] = {}

    def begin(self) -> None:
        """Take note that the execution waits from now on."""
        self._caller.waits.add(self)

    def end(self) -> None:
        """Take note that the execution waits no more."""
        self._caller.waits.discard(self)

    def queue(self, request: "InferRequest", instances: Sequence["Instance"]) -> None:
        """Take note that a request is about to wait for one of the instances of its model.

        Raises:
            Internal: none of them will ever be free, for they all wait for this call.
        """
        self._queued[request] = instances
        if self._caller in (stuck := _stuck(self._caller)):
            del self._queued[request]
            names = ", ".join(sorted(caller.name for caller in stuck))
            raise Internal(
                f"a call of model '{request.model_name}' by model instance '{self._caller.name}' would wait for ever: "
                f"instances that wait for each other's calls are {names} (more of them, by instance_group, may help)"
            )

    def take(self, request: "InferRequest", instance: Caller) -> None:
        """Take note that an instance has begun with a request."""
        self._queued.pop(request, None)
        self._held[request] = instance

    def leave(self, request: "InferRequest") -> None:
        """Take note that the execution of a request has ended."""
        self._held.pop(request, None)

    def reachable(self) -> "set[Caller]":
        """Return the instances that the answer may depend on and that wait themselves."""
        found = {instance for pool in self._queued.values() for instance in pool if isinstance(instance, Caller)}
        return {instance for instance in (*found, *self._held.values()) if instance.waits}

    def goes_on(self, stuck: AbstractSet[object]) -> bool:
        """Tell whether every request of the call has an instance that is not stuck."""
        return all(any(one not in stuck for one in pool) for pool in self._queued.values()) and stuck.isdisjoint(
            self._held.values()
        )


def _stuck(caller: Caller) -> set[Caller]:
    """Return the instances, of those that a caller depends on, that wait for each other and for nobody else."""
    stuck, new = {caller}, [caller]
    while new:
        for wait in new.pop().waits:
            for found in wait.reachable() - stuck:
                stuck.add(found)
                new.append(found)
    while free := {one for one in stuck if all(wait.goes_on(stuck) for wait in one.waits)}:
        stuck -= free
    return stuck
