"""The instances of one loaded version, which a load may add to or take from without loading the version anew.

An instance stays as long as a group asks for the like of it: of what it runs on and claims, whatever the group's name.
Source: TritonModel::PrepareInstances and InstanceConfigSignature in Triton core.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import ref

from tritium.backends.contract import BackendHost, ModelSource, TensorBackend
from tritium.core.errors import InvalidArgument
from tritium.core.instance import Instance
from tritium.core.scheduler.limiter import RateLimiter, Ticket
from tritium.core.tensor_model import TensorModel
from tritium.repository.seats import Seat, seats_of
from tritium.repository.warmup import warm_up


@dataclass(frozen=True, slots=True)
class Member:
    """An instance in its seat; `ticket` is its place in the rate limiter, where there is one and it takes requests."""

    seat: Seat
    instance: Instance
    ticket: Ticket | None


class Crew:
    """Opens the instances that a configuration asks for, and later those that it asks for besides."""

    def __init__(
        self, source: ModelSource, backend: TensorBackend, host: BackendHost, limiter: RateLimiter | None
    ) -> None:
        self._source = source
        self._backend = backend
        self._host = replace(host, changed=self._changed)
        self._limiter = limiter
        self._members: list[Member] = []
        self._model: Callable[[], TensorModel | None] = lambda: None

    async def open(self, make: Callable[[Sequence[Member]], TensorModel]) -> TensorModel:
        """Open every instance of the version, and make the model of them; if one fails, the others are closed again.

        Raises:
            InferenceError: an instance cannot be opened, entered at the rate limiter, or warmed up.
        """
        members = await self._open(self._source, seats_of(self._source.config))
        try:
            model = make(members)
        except BaseException:
            await _close(members)
            raise
        # Weakly, for the loader keeps a crew as long as its model.
        self._members, self._model = members, ref(model)
        return model

    async def change(self, groups: Sequence[Any], wait_s: float) -> None:
        """Give the model, which goes on serving, the instances that these groups ask for.

        Returns when those that are not needed any more have closed, or after `wait_s`: what is tied to one, it ends.

        Raises:
            InferenceError: likewise; the model goes on with the instances it has.
        """
        model = self._model()
        assert model is not None
        source = _with_groups(self._source, groups)
        left = list(self._members)
        kept: list[Member] = []
        missing: list[Seat] = []
        for seat in seats_of(source.config):
            # The first of a kind stay, so that their names are those that the group gives.
            found = next((member for member in left if member.seat.kind == seat.kind), None)
            if found is None:
                missing.append(seat)
            else:
                left.remove(found)
                kept.append(found)
        added = await self._open(source, missing)
        # In place: whoever has the configuration, the instances among them, sees how many there are now.
        mine = self._source.config.proto.instance_group
        del mine[:]
        mine.extend(groups)
        for member in added:
            model.admit(member.instance, member.ticket, passive=member.seat.passive)
        self._members = kept + added
        closing = [model.dismiss(member.instance) for member in left]
        if closing:
            await asyncio.wait(closing, timeout=wait_s)

    def _changed(self) -> None:
        """Pass word of an instance's health on to the model, once there is one."""
        model = self._model()
        if model is not None:
            model.health_changed()

    async def _open(self, source: ModelSource, seats: Sequence[Seat]) -> list[Member]:
        """Open instances side by side, and warm them up; if one fails, the others are closed again."""
        tickets = self._tickets(seats)
        opening = [asyncio.ensure_future(self._backend.open(source, seat.place, self._host)) for seat in seats]
        try:
            opened = await asyncio.gather(*opening)
            await warm_up(source, opened)
        except BaseException:
            for ticket in tickets:
                if ticket is not None:
                    ticket.withdraw()
            await _close_opened(opening)
            raise
        return [Member(*one) for one in zip(seats, opened, tickets, strict=True)]

    def _tickets(self, seats: Sequence[Seat]) -> list[Ticket | None]:
        """Enter the instances at the rate limiter, where there is one; if one cannot be, none is."""
        tickets: list[Ticket | None] = []
        try:
            tickets.extend(
                None if self._limiter is None or seat.passive else self._limiter.register(seat.claim) for seat in seats
            )
        except InvalidArgument:
            for ticket in tickets:
                if ticket is not None:
                    ticket.withdraw()
            raise
        return tickets


async def _close(members: Iterable[Member]) -> None:
    for member in members:
        if member.ticket is not None:
            member.ticket.withdraw()
    await asyncio.gather(*(member.instance.close() for member in members))


async def _close_opened(opening: Sequence["asyncio.Future[Instance]"]) -> None:
    for future in opening:
        future.cancel()
    for result in await asyncio.gather(*opening, return_exceptions=True):
        if not isinstance(result, BaseException):
            await result.close()


def _with_groups(source: ModelSource, groups: Sequence[Any]) -> ModelSource:
    proto = type(source.config.proto)()
    proto.CopyFrom(source.config.proto)
    del proto.instance_group[:]
    proto.instance_group.extend(groups)
    return replace(source, config=replace(source.config, proto=proto))
