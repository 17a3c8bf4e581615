"""`python -m qa.bench.openai_front.growth`: what the front and its worker hold while it answers 100,000 requests.

Every chat is another one, so that whatever is remembered of requests fills up; then the front is left alone and its
processors' time is read: an idle server should need none.
"""

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

import uvloop
from qa.bench.openai_front.load import Clients, words
from qa.bench.openai_front.model import write_model
from qa.bench.openai_front.server import MODEL, Server, cpu_s, start

STREAMS = 32
TOKENS = 8
WORDS = 60
LOOKS = 10
IDLE_S = 10


def main() -> None:
    """Load one server and print its memory as it goes."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.openai_front.growth")
    parser.add_argument("--requests", type=int, default=100_000)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory(prefix="tritium-growth-") as scratch:
        model = Path(scratch) / "model"
        write_model(model)
        server = start(model, 1, Path(scratch))
        try:
            print("| requests | front RSS MB | worker RSS MB |\n|---|---|---|")
            uvloop.run(_load(server, requests))
            print(f"\nidle: front {_idle_share(server.front.pid):.2%} of a processor over {IDLE_S} s")
        finally:
            server.stop()


async def _load(server: Server, requests: int) -> None:
    rng = random.Random(7)
    clients = await Clients.connect("127.0.0.1", server.port, MODEL, STREAMS)
    _show(server, 0)
    for look in range(1, LOOKS + 1):
        await clients.run([words(rng, WORDS) for _ in range(requests // LOOKS)], TOKENS)
        _show(server, look * (requests // LOOKS))
    clients.close()


def _show(server: Server, answered: int) -> None:
    workers = ", ".join(f"{_memory_mb(pid):.1f}" for pid in server.workers)
    print(f"| {answered:,} | {server.memory_mb:.1f} | {workers} |", flush=True)


def _memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _idle_share(pid: int) -> float:
    before_s = cpu_s(pid)
    time.sleep(IDLE_S)
    return (cpu_s(pid) - before_s) / IDLE_S


if __name__ == "__main__":
    main()
