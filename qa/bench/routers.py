"""`python -m qa.bench.routers`: what routers make of caches over HTTP, ours and Dynamo's in turn, on mock workers.

Same prompts, same clients, same number of workers and blocks, same model of a step's time; every row starts a server
with empty caches. Ideal is what one cache without bounds would give. `--trace` adds a trace of Mooncake's format, each
of its blocks as 16 words; `--dynamo` installs NVIDIA Dynamo once and measures it in the same run.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path

from qa.bench.openai_front import dynamo
from qa.bench.openai_front.load import Asking, Clients, Load, words
from qa.bench.openai_front.model import write_model
from qa.bench.openai_front.server import MODEL, Server, start
from tokenizers import Tokenizer

from tritium.router.blocks import hash_blocks, seed_of

_SCALE = 32
_BLOCK_WORDS = 16

_DYNAMO_MS = {
    "base_ms": 5.74,
    "prompt_base_ms": 10.76,
    "prompt_token_ms": 1.518344e-2,
    "prompt_square_ms": 4.209989e-7,
}
"""A step as Dynamo's mocker has it by default, but for what decoding takes longer as the cache fills."""


_OURS = Asking(header="x-tritium-explain: 1", worker=re.compile(rb"(?i)\r\nx-tritium-worker: ([^\r]+)\r"))
_DYNAMOS = Asking(fields={"nvext": {"extra_fields": ["worker_id"]}}, worker=re.compile(rb'"decode_worker_id":(\d+)'))
"""How each is asked to tell where a chat went."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to measure: its name, how it is started, and how it is asked who served a chat."""

    name: str
    start: Callable[[], Server]
    asking: Asking


@dataclass(frozen=True, slots=True)
class Job:
    """A prompt as the names of its parts, in words, and how long its answer is."""

    parts: Sequence[tuple[int, int]]
    output: int

    @property
    def prompt(self) -> str:
        """Return the text: the same words for a part of the same name."""
        return " ".join(words(random.Random(name * 7919 + 17), count) for name, count in self.parts)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked, and of workers of which blocks."""

    label: str
    jobs: Sequence[Job]
    block_tokens: int
    blocks: Sequence[int]

    def ideal(self, tokenizer: Tokenizer) -> float:
        """Return the share of prompt tokens that one cache without bounds would hold."""
        seen: set[int] = set()
        hits = total = 0
        for job in self.jobs:
            ids = tokenizer.encode(job.prompt).ids
            blocks = hash_blocks(ids, self.block_tokens, seed_of(salt="", lora=""))
            hits += self.block_tokens * sum(1 for _ in takewhile(seen.__contains__, blocks))
            total += len(ids)
            seen.update(blocks)
        return hits / total


def prefixes(seed: int, count: int = 20, each: int = 50) -> list[Job]:
    """Return jobs of 1,500 words of which each of `count` beginnings is shared by `each`, and 64 of their own."""
    own = iter(range(1 << 20, 1 << 30))
    jobs = [Job(((p + 1000 * seed, 1500), (next(own), 64)), 16) for p in range(count) for _ in range(each)]
    random.Random(seed).shuffle(jobs)
    return jobs


def trace(path: Path, begin: int, limit: int) -> list[Job]:
    """Return a slice of a trace."""
    with path.open() as lines:
        rows = [json.loads(line) for _, line in zip(range(begin + limit), lines, strict=False)][begin:]
    return [
        Job([(name, _BLOCK_WORDS) for name in row["hash_ids"]], max(1, row["output_length"] // _SCALE)) for row in rows
    ]


async def ask(server: Server, jobs: Sequence[Job], clients: int, asking: Asking) -> Load:
    """Ask the jobs in their order, so many at once."""
    connected = await Clients.connect("127.0.0.1", server.port, MODEL, clients, asking)
    try:
        return await connected.run([job.prompt for job in reversed(jobs)], [job.output for job in reversed(jobs)])
    finally:
        connected.close()


def row(load: Load, workers: int) -> str:
    """Return a run's figures; a worker that served nothing makes the spread infinite."""
    hits = sum(chat.cached_tokens for chat in load.chats) / sum(chat.prompt_tokens for chat in load.chats)
    first_ms = statistics.quantiles((chat.first_token_s * 1e3 for chat in load.chats), n=100)
    served = Counter(chat.worker for chat in load.chats)
    spread = max(served.values()) / min(served.values()) if len(served) == workers else float("inf")
    return f"{hits:.3f} | {spread:.2f} | {first_ms[49]:.0f} | {first_ms[98]:.0f} | {len(load.chats) / load.wall_s:.0f}"


def contenders(
    arguments: argparse.Namespace, model: Path, scratch: Path, work: Workload, blocks: int
) -> Iterator[Contender]:
    """Return the servers of a row, ours first."""
    engine = {
        "block_size": work.block_tokens,
        "num_gpu_blocks_override": blocks,
        "max_model_len": min(8192, work.block_tokens * blocks),
        "mocker": {"timing": _DYNAMO_MS, "speedup": arguments.speedup},
    }
    for mode in arguments.modes.split(","):
        begin = partial(start, model, arguments.workers, scratch, engine=engine, fleet=f"router={mode}")
        yield Contender(f"Tritium {mode}", begin, _OURS)
    if arguments.dynamo is None:
        return
    mocker = dynamo.Mocker(arguments.speedup, work.block_tokens, blocks)
    begin = partial(dynamo.start, arguments.dynamo, model, MODEL, arguments.workers, "kv", scratch, mocker=mocker)
    yield Contender("Dynamo kv", begin, _DYNAMOS)
    scaled = partial(begin, options=("--router-prefill-load-scale", "4"))
    yield Contender("Dynamo kv, load scale 4", scaled, _DYNAMOS)


def main() -> None:
    """Print a table: a row a load, cache size and router."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.routers", description=__doc__)
    parser.add_argument("--dynamo", type=Path, help="measure Dynamo, too, installed into this folder")
    parser.add_argument("--modes", default="kv", help="ours, a row each")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--speedup", type=float, default=4.0, help="of the mock workers' time")
    parser.add_argument("--rounds", type=int, default=1, help="how often all is measured, in turn")
    parser.add_argument("--trace", type=Path, help="also a trace of Mooncake's format")
    parser.add_argument("--begin", type=int, default=0, help="where in the trace")
    parser.add_argument("--limit", type=int, default=600, help="how much of it")
    parser.add_argument("--only", default="", help="only loads whose name has this in it")
    arguments = parser.parse_args()
    if arguments.dynamo is not None:
        dynamo.set_up(arguments.dynamo)
    loads = [Workload("20 prefixes x 50", prefixes(0), 64, (16384, 256))]
    if arguments.trace:
        jobs = trace(arguments.trace, arguments.begin, arguments.limit)
        loads.append(Workload(f"{arguments.trace.stem} {arguments.begin}+{arguments.limit}", jobs, 16, (2048, 512)))
    print("| load | ideal | blocks | router | hits | busiest/idlest | first token p50 ms | p99 ms | requests/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="tritium-bench-") as folder:
        model = Path(folder) / "model"
        write_model(model)
        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        ideals = {work.label: f"{work.ideal(tokenizer):.3f}" for work in loads}
        for _ in range(arguments.rounds):
            for work in loads:
                if arguments.only not in work.label:
                    continue
                for blocks in work.blocks:
                    for contender in contenders(arguments, model, Path(folder), work, blocks):
                        name, server = contender.name, contender.start()
                        try:
                            load = asyncio.run(ask(server, work.jobs, arguments.clients, contender.asking))
                        except (RuntimeError, ConnectionError) as error:
                            print(f"{name} at {work.label}: {error}", file=sys.stderr)
                            continue
                        finally:
                            server.stop()
                        cells = row(load, arguments.workers)
                        print(f"| {work.label} | {ideals[work.label]} | {blocks} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
