"""`python -m qa.bench.openai_front`: what the OpenAI front itself costs, over an engine as fast as it goes.

The figure to keep is the front's CPU time a token; rates depend on the machine, which the load generator shares.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import uvloop
from qa.bench.openai_front.load import Clients
from qa.bench.openai_front.server import MODEL, Server, cpu_s, start, write_repository

ROOT = Path(__file__).parents[3]
TOKENIZER = ROOT / "model_repository" / "tiny_chat" / "1" / "tiny_chat"

HEADINGS = [
    "streams",
    "chats/s",
    "tokens/s",
    "prompt tokens",
    "events/token",
    "first token p50 ms",
    "p99 ms",
    "front µs/token",
    "worker µs/token",
]


async def measure(server: Server, streams: int, arguments: argparse.Namespace) -> str:
    """Load the server with so many streams and return one line of the table."""
    chats = max(arguments.chats, 8 * streams) if streams > 1 else arguments.chats // 4
    shape = {"words": arguments.words, "tokens": arguments.tokens}
    clients = await Clients.connect("127.0.0.1", server.port, MODEL, streams)
    await clients.run(chats=2 * streams, **shape)
    pids = [server.process.pid, *server.workers]
    before = [cpu_s(pid) for pid in pids]
    done = await clients.run(chats=chats, **shape)
    front, *workers = (cpu_s(pid) - start for pid, start in zip(pids, before, strict=True))
    clients.close()
    first_ms = sorted(chat.first_token_s * 1e3 for chat in done.chats)
    prompt = statistics.mean(chat.prompt_tokens for chat in done.chats)
    cells = [
        f"{streams}",
        f"{len(done.chats) / done.wall_s:.0f}",
        f"{done.tokens / done.wall_s:,.0f}",
        f"{prompt:.0f}",
        f"{sum(chat.events for chat in done.chats) / done.tokens:.2f}",
        f"{statistics.median(first_ms):.2f}",
        f"{first_ms[int(len(first_ms) * 0.99)]:.2f}",
        f"{front / done.tokens * 1e6:.1f}",
        f"{sum(workers) / done.tokens * 1e6:.1f}",
    ]
    return _row(cells)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Start the server, load it, print the table, end the server."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.openai_front", description=__doc__)
    parser.add_argument("--streams", default="1,16,64", help="how many chats at once, one run each [1,16,64]")
    parser.add_argument("--chats", type=int, default=1200, help="chats a run [1200]; a quarter of it for one stream")
    parser.add_argument("--words", type=int, default=64, help="words of a prompt [64]")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer [64]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tritium-bench-") as scratch:
        repository = Path(scratch) / "models"
        write_repository(repository, TOKENIZER)
        server = start(repository, Path(scratch) / "server.log")
        try:
            print(f"load average before: {os.getloadavg()[0]:.1f}")
            print(_row(HEADINGS))
            print(_row(["---"] * len(HEADINGS)))
            for streams in map(int, arguments.streams.split(",")):
                print(uvloop.run(measure(server, streams, arguments)), flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
