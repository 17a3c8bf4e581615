"""`python -m qa.bench.openai_front`: what the OpenAI front itself costs, over an engine as fast as it goes.

With `--dynamo` the same load goes to NVIDIA Dynamo's frontend and mocker too, run by run in turn. The figure to keep
is the front's CPU time, a token and a request; rates depend on the machine, which the load generator shares.
"""

import argparse
import os
import random
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop
from qa.bench.openai_front import dynamo
from qa.bench.openai_front.load import Chat, Clients, words
from qa.bench.openai_front.model import write_model
from qa.bench.openai_front.server import MODEL, Server, cpu_s, start

ROOT = Path(__file__).parents[3]

HEADINGS = ["case", "front", "chats/s", "tokens/s", "prompt tokens", "cached", "events/token"]
HEADINGS += ["first token p50 ms", "p90 ms", "p99 ms", "front µs/token", "front µs/chat", "workers µs/token", "RSS MB"]


@dataclass(frozen=True, slots=True)
class Case:
    """One shape of load: so many chats between so many streams, each of `prefix` + `suffix` words."""

    streams: int
    chats: int
    tokens: int
    suffix: int
    prefix: int = 0
    prefixes: int = 1
    """With `prefix` words: how many different beginnings there are."""

    @property
    def name(self) -> str:
        """Name the row."""
        shared = f", {self.prefixes} prefixes of {self.prefix} words" if self.prefix else ""
        return f"{self.streams} streams, {self.suffix} words in{shared}, {self.tokens} tokens out"

    def prompts(self, rng: random.Random, count: int) -> list[str]:
        """Return the prompts of so many chats; a prefix is the same for every `rng`."""
        fixed = random.Random(1)
        beginnings = [words(fixed, self.prefix) for _ in range(self.prefixes)]
        return [f"{rng.choice(beginnings)} {words(rng, self.suffix)}".strip() for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of one case showed of one server."""

    chats: list[Chat]
    wall_s: float
    front_s: float
    workers_s: float
    memory_mb: float


async def measure(server: Server, case: Case, rng: random.Random) -> Sample:
    """Load a server once, after a warm-up."""
    clients = await Clients.connect("127.0.0.1", server.port, MODEL, case.streams)
    await clients.run(case.prompts(rng, max(2 * case.streams, 2 * case.prefixes)), case.tokens)
    workers = server.workers
    front, behind = cpu_s(server.front.pid), sum(map(cpu_s, workers))
    done = await clients.run(case.prompts(rng, case.chats), case.tokens)
    front, behind = cpu_s(server.front.pid) - front, sum(map(cpu_s, workers)) - behind
    clients.close()
    return Sample(done.chats, done.wall_s, front, behind, server.memory_mb)


def row(case: Case, server: Server, samples: list[Sample]) -> str:
    """Write one line of the table: medians of the runs, percentiles over the chats of all."""
    chats = [chat for sample in samples for chat in sample.chats]
    first_ms = sorted(chat.first_token_s * 1e3 for chat in chats)
    tokens = case.chats * case.tokens

    def median(of: Iterator[float]) -> float:
        return statistics.median(of)

    cells = [
        case.name,
        server.label,
        f"{median(case.chats / s.wall_s for s in samples):,.0f}",
        f"{median(tokens / s.wall_s for s in samples):,.0f}",
        f"{statistics.mean(chat.prompt_tokens for chat in chats):.0f}",
        f"{sum(c.cached_tokens for c in chats) / sum(c.prompt_tokens for c in chats):.2f}",
        f"{sum(c.events for c in chats) / sum(c.completion_tokens for c in chats):.2f}",
        *(f"{first_ms[int(len(first_ms) * part)]:.2f}" for part in (0.5, 0.9, 0.99)),
        f"{median(s.front_s / tokens * 1e6 for s in samples):.1f}",
        f"{median(s.front_s / case.chats * 1e6 for s in samples):,.0f}",
        f"{median(s.workers_s / tokens * 1e6 for s in samples):.1f}",
        f"{samples[-1].memory_mb:.0f}",
    ]
    return _row(cells)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cases(arguments: argparse.Namespace) -> list[Case]:
    cases = []
    for streams in map(int, arguments.streams.split(",")):
        chats = max(arguments.chats, 8 * streams) if streams > 1 else arguments.chats // 4
        cases.append(Case(streams, chats, arguments.tokens, arguments.words))
    if arguments.prefix:
        cases.append(Case(16, arguments.chats, 16, 64, arguments.prefix, 20))
    return cases


def main() -> None:
    """Start the servers, load them in turn, print the table, end them."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.openai_front", description=__doc__)
    parser.add_argument("--streams", default="1,16,64,128", help="how many chats at once, a row each")
    parser.add_argument("--chats", type=int, default=800, help="chats a run; a quarter of it for one stream")
    parser.add_argument("--words", type=int, default=110, help="words of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--prefix", type=int, default=1300, help="words of a shared prefix, in one more row; 0: no row")
    parser.add_argument("--runs", type=int, default=3, help="runs a case and server (medians are taken)")
    parser.add_argument("--workers", type=int, default=4, help="mock workers behind each front")
    parser.add_argument("--dynamo", nargs="*", metavar="MODE", help="also Dynamo, by these router modes [round-robin]")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench" / "dynamo", help="where Dynamo is kept")
    parser.add_argument("--pure", action="store_true", help="run Tritium from its sources, not compiled")
    arguments = parser.parse_args()
    build = [str(ROOT / "qa" / "compiled.sh")]
    compiled = "" if arguments.pure else subprocess.check_output(build, text=True).strip()
    with tempfile.TemporaryDirectory(prefix="tritium-bench-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        model = scratch / "model"
        write_model(model)
        servers = [start(model, arguments.workers, scratch, compiled)]
        stack.callback(servers[0].stop)
        if arguments.dynamo is not None:
            dynamo.set_up(arguments.folder)
            for mode in arguments.dynamo or ["round-robin"]:
                beside = scratch / mode
                beside.mkdir()
                servers.append(dynamo.start(arguments.folder, model, MODEL, arguments.workers, mode, beside))
                stack.callback(servers[-1].stop)
        print(f"load average before: {os.getloadavg()[0]:.1f}")
        print(_row(HEADINGS))
        print(_row(["---"] * len(HEADINGS)))
        for case in _cases(arguments):
            samples: dict[str, list[Sample]] = {server.label: [] for server in servers}
            for run in range(arguments.runs):
                for server in servers:
                    samples[server.label].append(
                        uvloop.run(measure(server, case, random.Random(f"{case.name}, run {run}")))
                    )
            for server in servers:
                print(row(case, server, samples[server.label]), flush=True)


if __name__ == "__main__":
    main()
