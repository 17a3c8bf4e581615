"""Workers and fronts of one process: engines behind open doors, found by discovery in memory."""

import asyncio
import itertools
from pathlib import Path

from tritium.backends.engine import Role
from tritium.cluster.announcement import Announcement
from tritium.cluster.card import Instance, ModelCard
from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.frames import VERSION, Load
from tritium.cluster.joined import join_fleet
from tritium.cluster.own_role import OwnRole
from tritium.cluster.plane.address import parse_address
from tritium.cluster.plane.files import FileServer
from tritium.cluster.plane.listener import PlaneListener
from tritium.cluster.plane.security import PlaneSecurity
from tritium.cluster.roll import Roll
from tritium.cluster.runner import EngineRunner
from tritium.cluster.spec import parse_fleet

_RUNS = itertools.count(1)


async def until(condition, within_s=60.0):
    """Wait for what others do in their own time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  what is read calls nobody
            await asyncio.sleep(0.01)


class OpenWorker:
    """A worker with an engine of this process, open to fronts and announced."""

    def __init__(self, discovery, name, *, model="echo", role=Role.AGGREGATED, namespace="default", security=None):
        self.discovery = discovery
        self.name = name
        self.model = model
        self.role = role
        self.namespace = namespace
        self.security = security or PlaneSecurity()
        self.runner = EngineRunner("", lambda reason: None)
        self.run = f"run{next(_RUNS)}"

    async def start(self, address="127.0.0.1:0", card_of=None, **arguments):
        load = Load(
            VERSION,
            "qa.unit.cluster.echo_engine:EchoEngine",
            str(Path(__file__).parent),
            arguments,
            self.role,
            self.name,
        )
        info = await self.runner.open(load)
        card, files = card_of(info) if card_of is not None else (ModelCard(self.model, info), FileServer({}))
        self.own_role = OwnRole(self.role, info.roles)
        self.door = PlaneListener(self.runner, files, self.security, worker=self.name, run=self.run, role=self.own_role)
        bound = await self.door.open(parse_address(address))
        number = float(self.run.removeprefix("run"))
        self.instance = Instance(self.namespace, self.name, self.run, self.role, str(bound), VERSION, number, card)
        self.announcement = Announcement(self.discovery, self.instance)
        self.own_role.on_change.append(lambda: self.announcement.change(self.own_role.role, self.own_role.number))
        await self.announcement.announce()
        return self

    async def leave(self, grace_s=30.0):
        """Leave as SIGTERM makes a worker leave."""
        await self.announcement.withdraw()
        await self.door.drain(grace_s)
        await self.end()

    async def kill(self):
        """Vanish: the connections end, the announcement stays."""
        for session in list(self.door.fronts):
            session.channel.abort()
        await self.end()

    async def end(self):
        await self.door.close()
        await self.runner.stop()


class Front:
    """What a front has of discovery: a roll, and a fleet for each model that is found."""

    def __init__(self, discovery, *, namespaces=("default",), security=None, spec="", name="front"):
        self.fleets = {}
        self.vanished = []
        self.spec = spec
        self.roll = Roll(
            discovery,
            namespaces,
            security or PlaneSecurity(),
            front=name,
            on_found=self._found,
            on_vanished=self.vanished.append,
        )
        self.roll.start()

    def _found(self, model):
        name = model.card.model
        self.fleets[name] = join_fleet(parse_fleet(self.spec), self.roll.members(name))

    async def fleet(self, model="echo", workers=1):
        await until(lambda: model in self.fleets)
        fleet = self.fleets[model]
        await until(lambda: sum(worker.ready for worker in fleet.workers.by_name.values()) >= workers)
        return fleet

    async def close(self):
        for fleet in self.fleets.values():
            await fleet.close()


def ask(fleet, sink, tokens, max_tokens=8, **rest):
    sampling = {"max_tokens": max_tokens, **rest.pop("sampling", {})}
    return fleet.generate(GenerationRequest(list(tokens), sampling, **rest), sink)
