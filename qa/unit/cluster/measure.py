"""Print what a token costs the server between socket and sink: `python -m qa.unit.cluster.measure`.

Two workers with the echo engine, prompts of 138 tokens, 64 generated: child processes, and found ones over TCP, in
turn. The numbers in docs/fleet.md are its.
"""

import asyncio
import logging
import os
import tempfile
import time
from pathlib import Path

import structlog
import uvloop
from qa.e2e.cluster import WorkerProcess
from qa.unit.cluster.remote_fleet import Front

from tritium.cluster.discovery.folder import FolderDiscovery
from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.local import start_fleet
from tritium.cluster.spec import parse_fleet

TOKENS = 64


class CountingSink:
    def __init__(self) -> None:
        self.over = asyncio.get_running_loop().create_future()

    def on_delta(self, delta) -> None:
        if delta.finish:
            self.over.set_result(None)

    def on_failure(self, error) -> None:
        self.over.set_exception(error)


ARGUMENTS = {"total_blocks": 100_000, "block_tokens": 16}


async def started():
    """Return a fleet of child processes, and how to end it."""
    here = Path(__file__).parent
    fleet = await start_fleet(
        parse_fleet("workers=2"), name="echo", engine="echo_engine:EchoEngine", folder=here, arguments=ARGUMENTS
    )
    return fleet, fleet.close


async def found():
    """Return a fleet of `tritium worker` processes, reached over TCP, and how to end it."""
    where = tempfile.mkdtemp(prefix="tritium-measure-")
    given = [f"--engine-argument={name}={value}" for name, value in ARGUMENTS.items()]
    workers = [
        await asyncio.to_thread(
            WorkerProcess, name, f"file:{where}", "--engine=echo_engine:EchoEngine", "--name=echo", *given
        )
        for name in ("a", "b")
    ]
    front = Front(FolderDiscovery(Path(where)))
    fleet = await front.fleet(workers=2)

    async def end():
        await front.close()
        for worker in workers:
            await asyncio.to_thread(worker.kill)

    return fleet, end


async def measure(fleet, streams):
    """Return tokens a second, and microseconds of this process's CPU a token."""

    async def client(requests: int) -> None:
        for index in range(requests):
            sink = CountingSink()
            fleet.generate(GenerationRequest([index % 7] * 138, {"max_tokens": TOKENS}), sink)
            await sink.over

    each = max(4, 64 // streams)
    began, began_cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client(each) for _ in range(streams)))
    taken, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    tokens = streams * each * TOKENS
    return tokens / taken, cpu / tokens * 1e6


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    fleets = {"started": await started(), "found": await found()}
    print("workers   streams   tokens/s   server CPU us/token   us/request")
    for streams in (1, 16, 64, 128):
        for kind, (fleet, _) in fleets.items():
            rate, cpu_us = await measure(fleet, streams)
            print(f"{kind:9} {streams:7} {rate:10.0f} {cpu_us:21.2f} {cpu_us * TOKENS:12.0f}")
    for _, end in fleets.values():
        await end()


if __name__ == "__main__":
    uvloop.run(main())
