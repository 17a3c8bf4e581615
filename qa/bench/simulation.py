"""`python -m qa.bench.simulation`: the same load through a real fleet of mock workers and through its simulation.

The real side has worker processes, sockets, events and a clock; its mockers keep the pace of an H100, as the simulated
ones do. What differs is what the simulation leaves out: the time of the front, of sockets and of timers.
"""

import asyncio
import logging
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop
from qa.bench.openai_front.model import write_model
from qa.bench.routing import BLOCK, Answer, Job, fleet_parser, loads_of

from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.local import LocalFleet, start_fleet
from tritium.cluster.spec import FleetSpec
from tritium.router.blocks import hash_blocks
from tritium.router.choice import Mode
from tritium.simulation.request import Request, Workload
from tritium.simulation.scenario import Scenario, play
from tritium.simulation.summary import Goal, first_tokens_s


@dataclass(frozen=True, slots=True)
class Figures:
    """What one side made of a load."""

    hits: float
    first_s: Sequence[float]

    def cells(self) -> str:
        """Return hits and the time to the first token: median, 99th percentile and mean."""
        cuts = statistics.quantiles(self.first_s, n=100)
        mean_ms = statistics.fmean(self.first_s) * 1e3
        return f"{self.hits:.3f} | {cuts[49] * 1e3:.1f} | {cuts[98] * 1e3:.1f} | {mean_ms:.1f}"


async def serve(fleet: LocalFleet, jobs: Sequence[Job], streams: int) -> Figures:
    """Send the jobs in their order to a real fleet, so many at once."""
    waiting, answers = iter(jobs), []
    loop = asyncio.get_running_loop()

    async def client() -> None:
        for job in waiting:
            answer = Answer(loop.create_future())
            sampling = {"max_tokens": job.output, "ignore_eos": True}
            fleet.generate(GenerationRequest(job.token_ids, sampling), answer)
            await answer.over
            answers.append(answer)

    await asyncio.gather(*(client() for _ in range(streams)))
    hits = sum(answer.cached for answer in answers) / sum(len(job.token_ids) for job in jobs)
    return Figures(hits, [answer.first_s for answer in answers])


def engine_arguments(blocks: int) -> dict[str, object]:
    """Return what both sides' engines are given."""
    return {
        "max_model_len": 16 * min(blocks, 1024),
        "num_gpu_blocks_override": blocks,
        "mocker": {"gpu": "h100"},
    }


async def really(mode: Mode, model: Path, jobs: Sequence[Job], workers: int, blocks: int, streams: int) -> Figures:
    """Play the jobs through worker processes at the pace of the clock."""
    fleet = await start_fleet(
        FleetSpec(workers=workers, router=mode),
        name="bench",
        engine="mocker",
        folder=model,
        arguments={**engine_arguments(blocks), "block_size": BLOCK},
    )
    try:
        return await serve(fleet, jobs, streams)
    finally:
        await fleet.close()


def simulated(mode: Mode, jobs: Sequence[Job], workers: int, blocks: int, streams: int) -> Figures:
    """Play the jobs through the simulation."""

    def requests() -> Iterator[Request]:
        for number, job in enumerate(jobs):
            yield Request(number, 0.0, len(job.token_ids), job.output, hash_blocks(job.token_ids, BLOCK))

    scenario = Scenario(
        FleetSpec(workers=workers), Workload("jobs", BLOCK, requests), engine_arguments(blocks), Goal(), streams=streams
    )
    outcome = play(scenario, mode)
    return Figures(outcome.summary.hit_ratio, first_tokens_s(outcome.records))


def main() -> None:
    """Print a table: two rows a load and mode."""
    arguments = fleet_parser("qa.bench.simulation", __doc__).parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    print("| load | blocks | mode | | hits | first token p50 ms | p99 ms | mean ms |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="tritium-bench-") as folder:
        model = Path(folder) / "model"
        write_model(model)
        for load in loads_of(arguments):
            for blocks in load.blocks:
                for mode in map(Mode, arguments.modes.split(",")):
                    given = (arguments.workers, blocks, arguments.streams)
                    real = uvloop.run(really(mode, model, load.jobs, *given))
                    print(f"| {load.label} | {blocks} | {mode} | real | {real.cells()} |", flush=True)
                    print(f"| | | | simulated | {simulated(mode, load.jobs, *given).cells()} |", flush=True)


if __name__ == "__main__":
    main()
