"""`python -m qa.bench.fronts`: what several fronts of one fleet of mock workers make of a load, beside one front.

    jobs in turn -> front 0, 1, 2, ...   each with its own router
                         \\ | /
                     the same workers, which tell every front what the others have them do

All of it in one process: real fronts, real runners, every frame written and read; only time is mocked. `--alone` keeps
from the fronts what the others do, for comparison.
"""

import argparse
import asyncio
import logging
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop
from qa.bench.openai_front.model import write_model
from qa.bench.routing import BLOCK, Answer, Job, ideal, prefix_jobs, tokens_of

from tritium.backends.engine import EngineInfo, MetricFamily, Role
from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.frames import VERSION, Elsewhere, FromWorker, Gauges, Load, OwnMetrics, Pong, Ready, ToWorker
from tritium.cluster.local import LocalFleet
from tritium.cluster.member import Reports, WorkerState
from tritium.cluster.runner import EngineRunner, Peer
from tritium.cluster.spec import FleetSpec

PAUSE_S = 0.005
"""How long a client takes, on average, before it sends its next job by another front. Without it all whose answers end
with one step would ask in the same turn of the loop, before any front can know of another's choice."""

_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


class LinkedWorker:
    """A PoolWorker whose runner is in this process; frames go by in the next turn of the loop, as over a socket."""

    def __init__(self, name: str, runner: EngineRunner, reports: Reports, *, alone: bool = False) -> None:
        self.name = name
        self.role = Role.AGGREGATED
        self.state = WorkerState.STARTING
        self.info: EngineInfo | None = None
        self.restarts = 0
        self.run = f"{name}-run"
        self.hung = 0
        self.gauges: dict[str, float] = {}
        self.peer = Peer(self._sent)
        self._runner = runner
        self._reports = reports
        self._alone = alone
        self._loop = asyncio.get_running_loop()

    @property
    def ready(self) -> bool:
        """Tell whether the worker takes requests."""
        return self.state is WorkerState.READY

    @property
    def own_metrics(self) -> list[MetricFamily]:
        """Return nothing: the mocker keeps none."""
        return []

    def send(self, *frames: ToWorker) -> None:
        """Send frames to the runner."""
        for frame in frames:
            self._loop.call_soon(self._arrive, msgspec.msgpack.encode(frame))

    async def load_lora(self, name: str, path: str) -> None:
        """Refuse: nobody asks for it here."""
        raise NotImplementedError

    async def unload_lora(self, name: str) -> None:
        """Refuse, as above."""
        raise NotImplementedError

    async def stop(self, grace_s: float) -> None:
        """Leave the runner."""
        self.state = WorkerState.STOPPED
        self._runner.leave(self.peer)

    def _arrive(self, data: bytes) -> None:
        frame: Any = _TO_WORKER.decode(data)
        if self.state is not WorkerState.STOPPED:
            self._runner.take(self.peer, frame)

    def _sent(self, frame: FromWorker) -> None:
        self._loop.call_soon(self._take, msgspec.msgpack.encode(frame))

    def _take(self, data: bytes) -> None:
        match _FROM_WORKER.decode(data):
            case Ready(info):
                self.info = info
                self.state = WorkerState.READY
                self._reports.on_ready(self)
            case Gauges(values):
                self.gauges = values
            case OwnMetrics() | Pong():
                pass
            case Elsewhere() if self._alone:
                pass
            case frame if self.ready:
                self._reports.on_frame(self, frame)  # type: ignore[arg-type]  the rest never comes while it is ready


@asynccontextmanager
async def fronts_over(
    model: Path, *, fronts: int, workers: int, arguments: dict[str, Any], alone: bool = False
) -> AsyncIterator[list[LocalFleet]]:
    """Open so many fronts over the same mock workers."""
    runners = [EngineRunner("", lambda reason: None) for _ in range(workers)]
    for number, runner in enumerate(runners):
        load = Load(VERSION, "mocker", str(model), arguments, Role.AGGREGATED, f"worker_{number}", number, workers)
        await runner.open(load)
    fleets = [LocalFleet(FleetSpec(workers=workers), "bench") for _ in range(fronts)]
    for fleet in fleets:
        fleet.workers.scatter = fronts > 1
    for fleet in fleets:
        for number, runner in enumerate(runners):
            worker = LinkedWorker(f"worker_{number}", runner, fleet.workers.reports, alone=alone)
            fleet.workers.add(worker)
            runner.join(worker.peer)
    try:
        # Ready, the question for the cache and its answer have come after so many turns.
        for _ in range(8):
            await asyncio.sleep(0)
        assert all(fleet.workers.generating.loads for fleet in fleets)
        yield fleets
    finally:
        for fleet in fleets:
            await fleet.close()
        for runner in runners:
            await runner.stop()


def unrelated_jobs(count: int = 600) -> list[Job]:
    """Return jobs that share nothing, a few of them ten times as long as the rest."""
    rng = random.Random(0)
    names = iter(range(1 << 20, 1 << 30))
    lengths = [10 * 40 if rng.random() < 0.1 else rng.randint(10, 40) for _ in range(count)]
    return [Job([token for _ in range(length) for token in tokens_of(next(names))], 32) for length in lengths]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the jobs: the share of prompt tokens found cached, and how evenly the workers were used."""

    hits: float
    balance: float
    first_ms: list[float]
    busy: float
    """Processor time over wall time: near 1 the bench itself is what takes long."""


async def send(fleets: Sequence[LocalFleet], jobs: Sequence[Job], streams: int) -> Outcome:
    """Send the jobs in their order, so many at once, each to the next front."""
    waiting, answers, went, rng = enumerate(jobs), [], Counter[str](), random.Random(1)
    loop = asyncio.get_running_loop()

    async def client() -> None:
        for number, job in waiting:
            answer = Answer(loop.create_future())
            sampling = {"max_tokens": job.output, "ignore_eos": True}
            fleet = fleets[number % len(fleets)]
            generation = fleet.generate(GenerationRequest(job.token_ids, sampling), answer)
            await answer.over
            answers.append(answer)
            assert generation.route is not None
            went[generation.route.worker] += 1
            await asyncio.sleep(rng.expovariate(1 / PAUSE_S))

    began_s, began_busy_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(streams)))
    busy = (time.process_time() - began_busy_s) / (time.perf_counter() - began_s)
    hits = sum(answer.cached for answer in answers) / sum(len(job.token_ids) for job in jobs)
    return Outcome(hits, max(went.values()) / min(went.values()), [answer.first_s * 1e3 for answer in answers], busy)


async def measure(model: Path, jobs: Sequence[Job], arguments: argparse.Namespace, fronts: int, blocks: int) -> str:
    """Return a row's figures."""
    engine = {
        "max_model_len": 16 * min(blocks, 1024),
        "block_size": BLOCK,
        "num_gpu_blocks_override": blocks,
        "mocker": {"gpu": "h100", "speedup": arguments.speedup},
    }
    opened = fronts_over(
        model, fronts=fronts, workers=arguments.workers, arguments=engine, alone=arguments.alone and fronts > 1
    )
    async with opened as fleets:
        outcome = await send(fleets, jobs, arguments.streams)
    first = statistics.quantiles(outcome.first_ms, n=100)
    return f"{outcome.hits:.3f} | {outcome.balance:.2f} | {first[49]:.0f} | {first[98]:.0f} | {outcome.busy:.2f}"


def main() -> None:
    """Print a table: a row a number of fronts and cache size."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.fronts", description=__doc__)
    parser.add_argument("--fronts", default="1,2,4", help="how many, a row each")
    parser.add_argument("--load", choices=["prefixes", "unrelated"], default="prefixes")
    parser.add_argument("--blocks", default="1024,16384", help="the size of each worker's cache, rows each")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--streams", type=int, default=16, help="how many at once")
    parser.add_argument("--speedup", type=float, default=1.0, help="of the mock workers' time")
    parser.add_argument("--alone", action="store_true", help="tell the fronts nothing of each other")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    jobs = prefix_jobs() if arguments.load == "prefixes" else unrelated_jobs()
    print("| fronts | blocks | ideal | hits | most/least | first token p50 ms | p99 ms | busy |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="tritium-bench-") as folder:
        model = Path(folder) / "model"
        write_model(model)
        for blocks in map(int, arguments.blocks.split(",")):
            for fronts in map(int, arguments.fronts.split(",")):
                row = uvloop.run(measure(model, jobs, arguments, fronts, blocks))
                print(f"| {fronts} | {blocks} | {ideal(jobs):.3f} | {row} |", flush=True)


if __name__ == "__main__":
    main()
