"""`python -m qa.bench.routing`: what the router's modes make of shared prefixes, on a fleet of mock workers.

The workers are processes with caches of their own that tell their events; only time is mocked. Ideal is what one cache
without bounds would give. `--trace` adds a trace of Mooncake's format (a JSON object a line with `hash_ids`, one for
each block of the prompt, and `output_length`), scaled so that each of its blocks is one of 16 tokens.
"""

import argparse
import asyncio
import json
import logging
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import uvloop
from qa.bench.openai_front.model import write_model

from tritium.backends.engine import Delta
from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.local import LocalFleet, start_fleet
from tritium.cluster.spec import FleetSpec
from tritium.core.errors import InferenceError
from tritium.router import choice
from tritium.router.choice import Mode

BLOCK = 16
SCALE = 32
"""A trace's blocks have 512 tokens."""

VOCABULARY = 500
"""Token ids are drawn below this."""


@dataclass(frozen=True, slots=True)
class Job:
    """A prompt and how long its answer is."""

    token_ids: list[int]
    output: int


@dataclass(frozen=True, slots=True)
class Load:
    """Jobs, and the sizes of caches they are sent to."""

    label: str
    jobs: Sequence[Job]
    blocks: Sequence[int]


@dataclass(slots=True, eq=False)
class Answer:
    """A sink that keeps what is measured of one generation."""

    over: "asyncio.Future[None]"
    began_s: float = field(default_factory=time.perf_counter)
    first_s: float = 0.0
    cached: int = 0

    def on_delta(self, delta: Delta) -> None:
        """Note the first token and the end."""
        self.first_s = self.first_s or time.perf_counter() - self.began_s
        self.cached += delta.cached_tokens or 0
        if delta.finish is not None:
            self.over.set_result(None)

    def on_failure(self, error: InferenceError) -> None:
        """Fail the run."""
        self.over.set_exception(error)


def tokens_of(name: int) -> list[int]:
    """Return the tokens of a block, the same for the same name."""
    return random.Random(name).choices(range(10, VOCABULARY), k=BLOCK)


def prefix_jobs(prefixes: int = 20, each: int = 50) -> list[Job]:
    """Return jobs of 92 shared and 6 own blocks each, in an order that is always the same."""
    own = iter(range(1 << 20, 1 << 30))
    shared = {p: [token for block in range(92) for token in tokens_of(p * 100 + block)] for p in range(prefixes)}
    jobs = [
        Job(shared[p] + [token for _ in range(6) for token in tokens_of(next(own))], 16)
        for p in range(prefixes)
        for _ in range(each)
    ]
    random.Random(0).shuffle(jobs)
    return jobs


def trace_jobs(path: Path, limit: int) -> list[Job]:
    """Return the first jobs of a trace."""
    with path.open() as lines:
        rows = [json.loads(line) for _, line in zip(range(limit), lines, strict=False)]
    return [
        Job([token for name in row["hash_ids"] for token in tokens_of(name)], max(1, row["output_length"] // SCALE))
        for row in rows
    ]


def ideal(jobs: Sequence[Job]) -> float:
    """Return the share of prompt tokens that one cache without bounds would hold."""
    seen: set[tuple[int, ...]] = set()
    hits = 0
    for job in jobs:
        beginnings = [tuple(job.token_ids[: end + BLOCK]) for end in range(0, len(job.token_ids), BLOCK)]
        hits += sum(beginning in seen for beginning in beginnings)
        seen.update(beginnings)
    return hits * BLOCK / sum(len(job.token_ids) for job in jobs)


async def run(fleet: LocalFleet, jobs: Sequence[Job], streams: int) -> str:
    """Send the jobs in their order, so many at once, and return a row's figures."""
    waiting, answers, went = iter(jobs), [], Counter[str]()
    loop = asyncio.get_running_loop()

    async def client() -> None:
        for job in waiting:
            answer = Answer(loop.create_future())
            sampling = {"max_tokens": job.output, "ignore_eos": True}
            generation = fleet.generate(GenerationRequest(job.token_ids, sampling), answer)
            await answer.over
            answers.append(answer)
            assert generation.route is not None
            went[generation.route.worker] += 1

    began_s = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(streams)))
    wall_s = time.perf_counter() - began_s
    hits = sum(answer.cached for answer in answers) / sum(len(job.token_ids) for job in jobs)
    first_ms = statistics.quantiles((answer.first_s * 1e3 for answer in answers), n=100)
    balance = max(went.values()) / min(went.values())
    return f"{hits:.3f} | {balance:.2f} | {first_ms[49]:.0f} | {first_ms[98]:.0f} | {wall_s:.1f}"


async def measure(mode: Mode, model: Path, jobs: Sequence[Job], arguments: argparse.Namespace, blocks: int) -> str:
    """Start a fleet for one row, so that its caches are empty, and end it."""
    fleet = await start_fleet(
        FleetSpec(workers=arguments.workers, router=mode),
        name="bench",
        engine="mocker",
        folder=model,
        arguments={
            "max_model_len": 16 * min(blocks, 1024),
            "block_size": BLOCK,
            "num_gpu_blocks_override": blocks,
            "mocker": {"gpu": "h100", "speedup": arguments.speedup},
        },
    )
    try:
        return await run(fleet, jobs, arguments.streams)
    finally:
        await fleet.close()


def fleet_parser(program: str, purpose: str | None) -> argparse.ArgumentParser:
    """Return a parser of what every measurement of a fleet on these loads can be told."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=purpose)
    parser.add_argument("--modes", default="kv,round_robin", help="the router's modes")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--streams", type=int, default=16, help="how many at once")
    parser.add_argument("--trace", type=Path, help="also a trace of Mooncake's format, at a 32nd of its length")
    parser.add_argument("--limit", type=int, default=600, help="how much of the trace")
    return parser


def loads_of(arguments: argparse.Namespace) -> list[Load]:
    """Return the loads that were asked for."""
    loads = [Load("20 prefixes x 50", prefix_jobs(), (1024, 16384))]
    if arguments.trace:
        loads.append(Load(arguments.trace.stem, trace_jobs(arguments.trace, arguments.limit), (512, 2048)))
    return loads


def main() -> None:
    """Print a table: a row a load, cache size and mode."""
    parser = fleet_parser("qa.bench.routing", __doc__)
    parser.add_argument("--speedup", type=float, default=2.0, help="of the mock workers' time")
    parser.add_argument("--shares", help="other constants of kv: WAIT (of an idle fleet),DECODE,COMPUTED,EXCESS")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if arguments.shares:
        shares = tuple(map(float, arguments.shares.split(",")))
        choice.WAIT_SHARE, choice.DECODE_SHARE, choice.COMPUTED_SHARE, choice.EXCESS_SHARE = shares
    print("| load | ideal | blocks | mode | hits | most/least | first token p50 ms | p99 ms | wall s |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="tritium-bench-") as folder:
        model = Path(folder) / "model"
        write_model(model)
        for load in loads_of(arguments):
            for blocks in load.blocks:
                for mode in map(Mode, arguments.modes.split(",")):
                    row = uvloop.run(measure(mode, model, load.jobs, arguments, blocks))
                    print(f"| {load.label} | {ideal(load.jobs):.3f} | {blocks} | {mode} | {row} |", flush=True)


if __name__ == "__main__":
    main()
