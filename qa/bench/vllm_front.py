"""`python -m qa.bench.vllm_front`: a real vLLM behind our front, against the same vLLM behind its own server.

Both load the sample model with the same arguments and answer the same streamed chats, run by run in turn. What is
compared is everything around the engine: throughput, the time to the first token, and processor time a token.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from qa.bench.openai_front.load import Chat, Clients, words
from qa.bench.openai_front.server import Server, cpu_s, free_port, wait_for

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "model_repository" / "tiny_chat"
MODEL = "tiny_chat"
READY_S = 400
QUIET_S = 4.0
"""vLLM's processes spin for three seconds after their last request; the other's must not be measured with them."""
OURS, THEIRS = "Tritium", "vLLM's server"

HEADINGS = ["clients", "front", "chats/s", "tokens/s", "first token p50 ms", "p90 ms", "chat p50 ms", "CPU µs/token"]


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run of one server."""

    chats: Sequence[Chat]
    wall_s: float
    cpu_s: float

    @property
    def tokens_per_s(self) -> float:
        """Return the rate of tokens."""
        return sum(chat.completion_tokens for chat in self.chats) / self.wall_s


def start_ours(scratch: Path) -> Server:
    """Start Tritium on a repository of the sample model alone."""
    repository = scratch / "models"
    shutil.copytree(SAMPLE, repository / MODEL)
    port = free_port()
    line = [str(Path(sys.executable).with_name("tritium")), "serve", str(repository), "--engine=vllm"]
    line += ["--host=127.0.0.1", "--no-http", "--no-grpc", "--no-metrics", f"--openai-port={port}"]
    return _start(OURS, line, port, scratch / "tritium.log")


def start_theirs(scratch: Path) -> Server:
    """Start vLLM's own server on the same folder with the same arguments."""
    arguments = json.loads((SAMPLE / "1" / "model.json").read_text())
    folder = SAMPLE / "1" / arguments.pop("model")
    port = free_port()
    # Not `vllm serve`: the build for CPUs has another distribution name, which that command does not find.
    line = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", f"--model={folder}"]
    line += [f"--served-model-name={MODEL}", "--host=127.0.0.1", f"--port={port}"]
    for name, value in arguments.items():
        option = f"--{name.replace('_', '-')}"
        line.append(option if value is True else f"{option}={value}")
    return _start(THEIRS, line, port, scratch / "vllm.log")


def _start(label: str, line: list[str], port: int, log: Path) -> Server:
    environment = dict(os.environ)
    environment |= {"TORCHDYNAMO_DISABLE": "1", "VLLM_HOST_IP": "127.0.0.1", "HF_HUB_OFFLINE": "1"}
    environment |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT, env=environment)
    return wait_for(Server(label, process, port), MODEL, log, READY_S)


async def measure(server: Server, clients: int, chats: int, tokens: int, rng: random.Random) -> Run:
    """Load a server once, after a short warm-up."""
    await asyncio.sleep(QUIET_S)
    connected = await Clients.connect("127.0.0.1", server.port, MODEL, clients)
    await connected.run([words(rng, 16) for _ in range(clients)], tokens)
    processes = tree(server.front.pid)
    before = sum(map(cpu_s, processes))
    load = await connected.run([words(rng, 16) for _ in range(chats)], tokens)
    spent = sum(map(cpu_s, processes)) - before
    connected.close()
    return Run(load.chats, load.wall_s, spent)


def tree(pid: int) -> list[int]:
    """Return a process and all that came of it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def row(clients: int, label: str, runs: Sequence[Run]) -> list[str]:
    """Write one line: medians of the runs, percentiles over the chats of all."""
    chats = [chat for run in runs for chat in run.chats]
    first = sorted(chat.first_token_s * 1e3 for chat in chats)
    tokens = sum(chat.completion_tokens for chat in chats)
    return [
        str(clients),
        label,
        f"{statistics.median(len(run.chats) / run.wall_s for run in runs):.1f}",
        f"{statistics.median(run.tokens_per_s for run in runs):.0f}",
        f"{first[len(first) // 2]:.1f}",
        f"{first[len(first) * 9 // 10]:.1f}",
        f"{statistics.median(chat.total_s * 1e3 for chat in chats):.0f}",
        f"{sum(run.cpu_s for run in runs) / tokens * 1e6:.0f}",
    ]


async def compare(servers: Sequence[Server], clients: int, runs: int, tokens: int) -> list[list[str]]:
    """Measure both servers in turn."""
    results: dict[str, list[Run]] = {server.label: [] for server in servers}
    for number in range(runs):
        for server in servers if number % 2 else reversed(servers):
            rng = random.Random(number)
            chats = max(12, 4 * clients)
            results[server.label].append(await measure(server, clients, chats, tokens, rng))
    return [row(clients, label, found) for label, found in results.items()]


def take_precedence() -> None:
    """Let nothing keep the load generator waiting, where that is allowed: else it measures its own delays.

    vLLM's processes spin; beside them an ordinary client on a machine of few cores sees tokens in bursts.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        print("The load generator runs without precedence: times to the first token are upper bounds.")


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.vllm_front", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64, help="a chat's answer")
    options = parser.parse_args()
    servers: list[Server] = []
    with tempfile.TemporaryDirectory(prefix="tritium-bench-") as scratch:
        try:
            servers = [start_ours(Path(scratch)), start_theirs(Path(scratch))]
            take_precedence()
            print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
            for clients in options.clients:
                for line in uvloop.run(compare(servers, clients, options.runs, options.tokens)):
                    print("| " + " | ".join(line) + " |", flush=True)
        finally:
            for server in servers:
                server.stop()


if __name__ == "__main__":
    main()
