"""Roles of found workers changed back and forth while they stream: `python -m qa.bench.found_roles [ENGINE]`.

1P+2D of `tritium worker`, real vLLM unless told otherwise, and two fronts. Answers under load must stay the same, and
those to long prompts must equal what one worker alone said, whoever computes them: the exit status says whether it was
so.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from qa.e2e.cluster import Load, WorkerProcess, metric, start_front
from qa.e2e.test_cluster_roles import PREFILLS, ask, fleet, until_roles

START_S = 1800
"""Real vLLM on a CPU that others use as well takes its time."""

MORE_S = 300
COUNTED = (
    PREFILLS,
    "tritium_fleet_prefill_fallbacks_total",
    "tritium_fleet_moved_requests_total",
    "tritium_fleet_lost_requests_total",
)


async def main(engine: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="tritium-found-roles-") as scratch:
        discovery = f"file:{scratch}/workers"
        running = []

        async def worker(index: int, name: str, role: str) -> None:
            arguments = [f"--engine={engine}", f"--role={role}", f"--share={index}/3"]
            running.append(await asyncio.to_thread(WorkerProcess, name, discovery, *arguments, wait_s=START_S))

        try:
            await asyncio.gather(worker(0, "p", "prefill"), worker(1, "d", "decode"), worker(2, "e", "decode"))
            fronts = [await asyncio.to_thread(start_front, discovery, Path(scratch, "cards")) for _ in range(2)]
            running += fronts
            one, other = fronts
            for front in fronts:
                await until_roles(front, prefill=1, decode=2)
            alone = [await ask(one, number, **{"x-tritium-worker": "e"}) for number in range(6)]
            load = Load([front.url("OpenAI") for front in fronts], clients=4)
            await load.grow(8, MORE_S)
            right = True
            for front, change, roles in (
                (one, ("--worker", "e=prefill"), {"prefill": 2, "decode": 1}),
                (other, ("prefill=1,decode=2",), {"prefill": 1, "decode": 2}),
            ):
                status, said = await asyncio.to_thread(fleet, front, *change)
                print(said)
                for each in fronts:
                    await until_roles(each, **roles)
                await load.grow(8, MORE_S)
                told = [await ask(fronts[number % 2], number) for number in range(len(alone))]
                equal = sum(a == b for a, b in zip(alone, told, strict=True))
                print(f"{equal} of {len(alone)} answers equal those of one worker\n")
                right = right and status == 0 and equal == len(alone)
            print(f"{await load.end()} answers under load, none another than the first to its prompt")
            for name in COUNTED:
                print(f"{name:42} {sum([await asyncio.to_thread(metric, front, name) for front in fronts]):g}")
            received = "tritium_kv_received_bytes_total"  # the workers' own count, which every front tells
            print(f"{received:42} {await asyncio.to_thread(metric, one, received):g}")
            return right
        finally:
            for process in running:
                await asyncio.to_thread(process.kill)


if __name__ == "__main__":
    sys.exit(not asyncio.run(main(*(sys.argv[1:2] or ["vllm"]))))
