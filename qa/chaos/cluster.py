"""`python -m qa.chaos.cluster`: fronts, workers, etcd and NATS, of which something is killed every other second.

Two fronts and three workers of the sample model, each a process of its own. What is killed by kill -9 is started again
a while later. Every answer is compared with the same one undisturbed: it must be whole and right, or end in an error;
none may hang. Whose front is killed gets an error; with nothing but workers, etcd and NATS killed there must be none
(`--harm worker,etcd,nats --faultless`). At the end nothing may be under way, everything ends in good order, and etcd
has no lease left.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from qa.chaos.load import Load, references
from qa.e2e.cluster import WorkerProcess, metric, start_front
from qa.e2e.product import Product
from qa.unit.cluster.etcd_server import EtcdServer
from qa.unit.cluster.nats_server import NatsServer

WORKERS = ("a", "b", "c")
FRONTS = ("one", "two")
HARMS = ("worker", "leave", "front", "etcd", "nats")
SETTING = "tiny_chat=silent_s=3,hold_s=30,moves=20"
REST_S = 120.0


class Cluster:
    """What is killed and started again; for the load it is a server with a port, which is any living front's."""

    name = "tiny_chat"

    def __init__(self, scratch: Path, seed: int, *, events: bool) -> None:
        self.scratch = scratch
        self.etcd = EtcdServer()
        self.nats = NatsServer() if events else None
        self.workers: dict[str, WorkerProcess] = {}
        self.fronts: dict[str, Product] = {}
        self.done: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._mending: set[asyncio.Task[None]] = set()
        self._away: set[str] = set()

    @property
    def port(self) -> int:
        """Return the port of a front, any that lives."""
        return self._chance.choice(list(self.fronts.values())).ports["OpenAI"]

    async def start(self) -> None:
        """Start everything, and wait until every front has every worker."""
        await self.etcd.start()
        if self.nats is not None:
            await self.nats.start()
        await asyncio.gather(*map(self._worker, WORKERS), *map(self._front, FRONTS))
        await self.whole()

    async def whole(self) -> None:
        """Wait until every front has every worker, and none has a request under way.

        Raises:
            TimeoutError: that does not come.
        """
        for name, front in self.fronts.items():
            deadline_s = time.monotonic() + REST_S
            while True:
                ready = await asyncio.to_thread(metric, front, "tritium_workers", state="ready")
                active = await asyncio.to_thread(metric, front, "tritium_fleet_active_requests")
                if (ready, active) == (len(WORKERS), 0):
                    break
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"front {name} has {ready:g} workers and {active:g} requests at rest")
                await asyncio.sleep(0.1)

    async def harm(self, kind: str) -> None:
        """Do harm of a kind, if there is whom to do it to, and have it mended later."""
        match kind:
            case "worker" | "leave":
                living = [name for name in self.workers if name not in self._away]
                if len(living) < 2:
                    return
                name = self._chance.choice(living)
                worker = self.workers.pop(name)
                self._mend(name, asyncio.to_thread(worker.kill if kind == "worker" else worker.stop), self._worker)
            case "front":
                if len(self.fronts) < 2:
                    return
                name = self._chance.choice(list(self.fronts))
                self._mend(name, asyncio.to_thread(self.fronts.pop(name).kill), self._front)
            case "etcd" | "nats":
                server = self.etcd if kind == "etcd" else self.nats
                if server is None or kind in self._away:
                    return
                self._mend(kind, asyncio.to_thread(server.kill), lambda _: server.start())
        self.done[kind] += 1

    async def mended(self) -> None:
        """Wait until everything that was killed is there again."""
        while self._mending:
            await asyncio.gather(*self._mending)

    async def left(self) -> list[str]:
        """Ask everything to end, and return what did not, or was left in etcd."""
        wrong = []
        for name, one in (*self.workers.items(), *self.fronts.items()):
            if status := await asyncio.to_thread(one.stop):
                wrong.append(f"{name} ended with status {status}")
        deadline_s = time.monotonic() + REST_S
        while leases := await self.etcd.leases():
            if time.monotonic() > deadline_s:
                return [*wrong, f"left behind: {len(leases)} leases"]
            await asyncio.sleep(0.1)
        return wrong

    async def close(self) -> None:
        """End everything."""
        for one in (*self.fronts.values(), *self.workers.values()):
            await asyncio.to_thread(one.kill)
        self.etcd.close()
        if self.nats is not None:
            self.nats.close()

    def _mend(self, name, end, start) -> None:
        async def mend() -> None:
            await end
            await asyncio.sleep(self._chance.uniform(0.5, 3.0))
            await start(name)
            self._away.discard(name)

        self._away.add(name)
        task = asyncio.create_task(mend())
        self._mending.add(task)
        task.add_done_callback(self._mending.discard)

    async def _worker(self, name: str) -> None:
        self.workers[name] = await asyncio.to_thread(WorkerProcess, name, self.etcd.address, *self._events())

    async def _front(self, name: str) -> None:
        front = await asyncio.to_thread(
            start_front, self.etcd.address, self.scratch / "cards", f"--fleet={SETTING}", *self._events()
        )
        self.fronts[name] = front

    def _events(self) -> list[str]:
        return [f"--events={self.nats.address}"] if self.nats is not None else []


async def run(options: argparse.Namespace, scratch: Path) -> list[str]:
    """Do harm for so long, and return what was not as it should be."""
    cluster = Cluster(scratch, options.seed, events=bool(shutil.which("nats-server")))
    chance = random.Random(options.seed)
    harms = options.harm.split(",")
    try:
        await cluster.start()
        load = Load(cluster, await references(cluster), options.seed)
        clients = [asyncio.create_task(load.client()) for _ in range(options.streams)]
        end_s = time.monotonic() + options.seconds
        while time.monotonic() < end_s:
            await asyncio.sleep(chance.uniform(*options.pause))
            await cluster.harm(chance.choice(harms))
        await cluster.mended()
        load.ending = True
        await asyncio.gather(*clients)
        print(load.table())
        print("harm: " + ", ".join(f"{kind} {cluster.done[kind]}" for kind in harms))
        wrong = load.complaints()
        if options.faultless:
            wrong += [f"{count} x {error}" for error, count in load.errors.items()]
        try:
            await cluster.whole()
        except TimeoutError as error:
            wrong.append(str(error))
        return wrong + await cluster.left()
    finally:
        await cluster.close()


def main() -> None:
    """Run in a scratch folder, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m qa.chaos.cluster", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--streams", type=int, default=8, help="clients, each with one request after the other")
    parser.add_argument("--harm", default=",".join(HARMS), help="what is done, separated by commas")
    parser.add_argument("--pause", type=float, nargs=2, default=(0.5, 3.0), help="seconds between two harms, from to")
    parser.add_argument("--faultless", action="store_true", help="no request may fail, either")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = asyncio.run(run(options, Path(folder)))
    for complaint in wrong:
        print(complaint)
    print("all is as it should be" if not wrong else f"{len(wrong)} complaints")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
