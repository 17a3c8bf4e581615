"""`python -m qa.chaos.tiers`: real vLLM whose tiers are hurt, and that must answer as if nothing had been.

Its processes are killed in every phase in which blocks go to the disk and come from it; then the disk is full, blocks
on it are damaged, the object store hangs and goes away. Every answer is compared with the one that is computed under a
salt of its own, in float32, greedily. A killed worker must find its disk tier again.
"""

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import structlog
from qa.bench.kv_tiers_vllm.bucket import Bucket, bucket
from qa.bench.kv_tiers_vllm.engine import Engine
from qa.chaos.tier_faults import MODULE, OFFLOAD, ONBOARD, Faults
from tokenizers import Tokenizer

from tritium.backends.vllm.tiers.setting import connector_config
from tritium.cluster.local import start_fleet
from tritium.cluster.spec import parse_fleet

SAMPLE = Path(__file__).parents[2] / "model_repository" / "tiny_chat" / "1"
TEXT = "What is a model repository? A model repository is a folder of models. Each model has a folder of its own. "
BLOCK = 32
DEVICE_BLOCKS = 36
TOKENS = 12
WORKER = "worker_0"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, and what is answered when all of it is computed."""

    tokens: list[int]
    told: list[int]


class Victim(Engine):
    """The engine that is hurt, with its faults."""

    def __init__(self, fleet: Any, folder: Path) -> None:
        super().__init__(fleet)
        self.faults = Faults(folder)
        self.different = 0

    @property
    def pid(self) -> int:
        """Return the worker's process."""
        return int(self._worker.pid)

    @property
    def _worker(self) -> Any:
        return self.fleet.workers.by_name[WORKER]

    async def prompt(self, name: str, tokens: Sequence[int]) -> Prompt:
        """Return a prompt with what it is answered, computed under a salt."""
        answer = await self.ask(tokens, TOKENS, salt=f"computed {name}")
        return Prompt(list(tokens), answer.tokens)

    async def check(self, prompt: Prompt) -> int:
        """Ask a prompt, count a different answer; return how many of its tokens were not computed."""
        answer = await self.ask(prompt.tokens, TOKENS)
        self.different += answer.tokens != prompt.told
        return answer.cached_tokens

    async def ready_again(self, killed: int) -> None:
        """Wait for the worker that is started after this one."""
        await self.until(lambda: self.pid != killed and self._worker.ready)


@asynccontextmanager
async def victim(folder: Path, tiers: str) -> AsyncIterator[Victim]:
    """Start vLLM on the sample model with these tiers and the connector that has faults."""
    arguments = json.loads((SAMPLE / "model.json").read_text())
    model = SAMPLE / arguments.pop("model")
    config = connector_config(tiers, model.name, 0)
    config["kv_connector_module_path"] = MODULE
    config["kv_connector_extra_config"]["faults"] = str(folder)
    arguments |= {"num_gpu_blocks_override": DEVICE_BLOCKS, "kv_transfer_config": config}
    spec = parse_fleet("workers=1,hold_s=600,stuck_s=0,silent_s=0")
    fleet = await start_fleet(spec, name="tiny_chat", engine="vllm", folder=model, arguments=arguments)
    try:
        yield Victim(fleet, folder)
    finally:
        await fleet.close()


def prompts(count: int, first: int = 0) -> list[list[int]]:
    """Return prompts of the same length that begin differently; two and a half of them fill the device."""
    words = Tokenizer.from_file(str(SAMPLE / "tiny_chat" / "tokenizer.json"))
    tokens: list[int] = words.encode(TEXT * 60).ids
    return [[16 + place, *tokens[: 14 * BLOCK + 9]] for place in range(first, first + count)]


async def kill_in(hurt: Victim, phase: str, kept: Sequence[Prompt], fresh: Sequence[int]) -> str:
    """Kill vLLM's process when it comes to a phase; tell what came of the request under way and of the others."""
    hurt.faults.end("stopped")
    asked = await hurt.prompt(phase, fresh)
    for prompt in kept:  # the last of these push the first out of the device
        await hurt.check(prompt)
    hurt.faults.set("stop", phase)
    before = hurt.pid
    under_way = asyncio.create_task(hurt.check(kept[0] if phase in ONBOARD else asked))
    try:
        await hurt.until(lambda: bool(hurt.faults.get("stopped")))
    finally:
        hurt.faults.end("stop")
    began_s = time.monotonic()
    os.kill(int(hurt.faults.get("stopped")), signal.SIGKILL)
    await under_way
    await hurt.ready_again(before)
    took_s = time.monotonic() - began_s
    hits = hurt.counter("tritium_kv_tier_hits_total", tier="disk")
    found = [await hurt.check(prompt) for prompt in kept]
    await hurt.check(asked)
    served = hurt.counter("tritium_kv_tier_hits_total", tier="disk") - hits
    damaged = hurt.counter("tritium_kv_tier_damaged_total")
    return (
        f"ready again after {took_s:.0f} s, {sum(map(bool, found))} of {len(kept)} prompts found on disk"
        f" ({served:.0f} blocks), {damaged:.0f} damaged"
    )


async def full(hurt: Victim, fresh: Sequence[Sequence[int]]) -> str:
    """Answer while the disk takes nothing."""
    hurt.faults.set("full")
    asked = [await hurt.prompt(f"full {place}", tokens) for place, tokens in enumerate(fresh)]
    for prompt in (*asked, *asked):
        await hurt.check(prompt)
    hurt.faults.end("full")
    await hurt.until(lambda: hurt.counter("tritium_kv_tier_faults_total", tier="disk") > 0)
    return f"{hurt.counter('tritium_kv_tier_faults_total', tier='disk'):.0f} blocks not kept"


def damage(directory: Path) -> None:
    """Change every block of a disk tier."""
    (blocks,) = directory.rglob("blocks.dat")
    with blocks.open("r+b") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        for start in range(0, size_bytes, 4096):
            file.seek(start)
            file.write(b"\xa5" * 16)


async def damaged(hurt: Victim, kept: Sequence[Prompt], directory: Path) -> str:
    """Answer though every block on disk has changed."""
    damage(directory)
    for prompt in kept:
        await hurt.check(prompt)
    await hurt.until(lambda: hurt.counter("tritium_kv_tier_damaged_total", tier="disk") > 0)
    return f"{hurt.counter('tritium_kv_tier_damaged_total', tier='disk'):.0f} blocks found damaged"


async def without_bucket(hurt: Victim, kept: Sequence[Prompt], store: Bucket) -> str:
    """Answer while the object store hangs, and after it has gone."""
    for prompt in (*kept, *kept):
        await hurt.check(prompt)
    await hurt.saved()
    there = hurt.counter("tritium_kv_tier_hits_total", tier="object")
    store.hang()
    began_s = time.monotonic()
    for prompt in kept:
        await hurt.check(prompt)
    hung_s = time.monotonic() - began_s
    store.end()
    for prompt in kept:
        await hurt.check(prompt)
    failed = hurt.counter("tritium_kv_tier_faults_total", tier="object")
    return (
        f"{there:.0f} blocks came while it was there; {len(kept)} answers in {hung_s:.1f} s while it hung,"
        f" {failed:.0f} faults"
    )


async def run(phases: Sequence[str], scratch: Path, tell: Callable[[str, str], None]) -> int:
    """Hurt one engine in all these ways, and another one by its object store; return how many answers differed."""
    faults = scratch / "faults"
    disk = scratch / "disk"
    faults.mkdir()
    async with victim(faults, f"disk=64MiB:{disk},disk_min_uses=1,fetch=always") as hurt:
        kept = [await hurt.prompt(f"kept {place}", tokens) for place, tokens in enumerate(prompts(4))]
        for place, phase in enumerate(phases):
            (fresh,) = prompts(1, first=10 + place)
            tell(f"killed {phase}", await kill_in(hurt, phase, kept, fresh))
        tell("disk full", await full(hurt, prompts(3, first=40)))
        tell("blocks damaged", await damaged(hurt, kept, disk))
        different = hurt.different
    with bucket() as store:
        tiers = f"object=64MiB:s3://bucket/kv,object_endpoint={store.endpoint},object_timeout_s=1,fetch=always"
        async with victim(faults, tiers) as hurt:
            kept = [await hurt.prompt(f"kept {place}", tokens) for place, tokens in enumerate(prompts(4))]
            tell("bucket hangs, then is gone", await without_bucket(hurt, kept, store))
            different += hurt.different
    return different


@click.command()
@click.option("--phase", "phases", multiple=True, default=(*OFFLOAD, *ONBOARD), show_default=True)
def main(phases: tuple[str, ...]) -> None:
    """Print a line of a table for every harm; fail where an answer was another one than is computed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    click.echo("| what | what came of it |\n|---|---|")
    with tempfile.TemporaryDirectory() as made:
        different = asyncio.run(run(phases, Path(made), lambda what, told: click.echo(f"| {what} | {told} |")))
    click.echo(f"{different} answers differed from what is computed")
    raise SystemExit(bool(different))


if __name__ == "__main__":
    main()
