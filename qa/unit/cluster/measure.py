"""Print what a token costs the server between socket and sink: `python qa/unit/cluster/measure.py`.

Two workers with the echo engine, prompts of 138 tokens, 64 generated. The numbers in docs/fleet.md are its.
"""

import asyncio
import logging
import os
import time
from pathlib import Path

import structlog
import uvloop

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


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    here = Path(__file__).parent
    os.environ["PYTHONPATH"] = str(here)
    fleet = await start_fleet(
        parse_fleet("workers=2"),
        name="echo",
        engine="echo_engine:EchoEngine",
        folder=here,
        arguments={"total_blocks": 100_000, "block_tokens": 16},
    )

    async def client(requests: int) -> None:
        for index in range(requests):
            sink = CountingSink()
            fleet.generate(GenerationRequest([index % 7] * 138, {"max_tokens": TOKENS}), sink)
            await sink.over

    print("streams   tokens/s   server CPU us/token   us/request")
    for streams in (1, 16, 64, 128):
        each = max(4, 64 // streams)
        began, began_cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(client(each) for _ in range(streams)))
        taken, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        tokens = streams * each * TOKENS
        print(f"{streams:7} {tokens / taken:10.0f} {cpu / tokens * 1e6:21.2f} {cpu / tokens * TOKENS * 1e6:12.0f}")
    await fleet.close()


if __name__ == "__main__":
    uvloop.run(main())
