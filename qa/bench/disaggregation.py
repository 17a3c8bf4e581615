"""What disaggregation does to the first token and to the ones after it: `python -m qa.bench.disaggregation`.

Two mockers at the pace of an H100 with an 8B model; long prompts with short answers come between short prompts with
long answers, at random times that are the same for every fleet. Slow transfers show when it should stay out of the way.
"""

import asyncio
import random
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

import click

from tritium.backends.engine import Delta
from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.local import LocalFleet, start_fleet
from tritium.cluster.spec import parse_fleet
from tritium.core.errors import InferenceError

LONG = (6000, 32)
SHORT = (300, 150)
"""Tokens of a prompt and of its answer."""

FLEETS: tuple[tuple[str, dict[str, float]], ...] = (
    ("workers=2", {}),
    ("prefill=1,decode=1", {}),
    ("prefill=1,decode=1,detour=0", {"transfer_gib_s": 0.5, "transfer_latency_ms": 200}),
    ("prefill=1,decode=1", {"transfer_gib_s": 0.5, "transfer_latency_ms": 200}),
)
"""Fleets, and how slow transfers are; without a word 20 GiB/s."""


class Watched:
    """A generation's times."""

    def __init__(self) -> None:
        self.began_s = time.perf_counter()
        self.first_s = 0.0
        self.gaps_s: list[float] = []
        self.over = asyncio.Event()
        self._last_s = 0.0

    def on_delta(self, delta: Delta) -> None:
        """Note when a token came."""
        now_s = time.perf_counter()
        if self.first_s:
            self.gaps_s.append(now_s - self._last_s)
        else:
            self.first_s = now_s - self.began_s
        self._last_s = now_s
        if delta.finish:
            self.over.set()

    def on_failure(self, error: InferenceError) -> None:
        """Fail the run: nothing may go wrong here."""
        self.over.set()
        raise error


async def _load(fleet: LocalFleet, seconds: float, rate: float) -> list[Watched]:
    """Ask at random times, every fourth time a long prompt."""
    rng = random.Random(7)
    began_s, due_s, watched = time.perf_counter(), 0.0, []
    number = 0
    while due_s < seconds:
        due_s += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, began_s + due_s - time.perf_counter()))
        prompt, answer = LONG if number % 4 == 0 else SHORT
        sink = Watched()
        sampling = {"max_tokens": answer, "ignore_eos": True}
        tokens = rng.choices(range(20, 120_000), k=prompt)
        fleet.generate(GenerationRequest(tokens, sampling), sink)
        watched.append(sink)
        number += 1
    await asyncio.gather(*(asyncio.wait_for(sink.over.wait(), 120) for sink in watched))
    return watched


async def _measure(setting: str, transfer: dict[str, float], seconds: float, rate: float) -> str:
    mocker: dict[str, Any] = {"gpu": "h100", "model": "8b", "precision": "fp8", **transfer}
    fleet = await start_fleet(
        parse_fleet(setting),
        name="bench",
        engine="mocker",
        folder=Path("nowhere"),
        arguments={"block_size": 32, "mocker": mocker},
    )
    try:
        watched = await _load(fleet, seconds, rate)
        decisions = fleet.workers.prefill.decisions
        remote = sum(count for (where, _), count in decisions.items() if where == "remote")
    finally:
        await fleet.close()
    first = quantiles([sink.first_s * 1e3 for sink in watched], n=100)
    gaps = quantiles([gap * 1e3 for sink in watched for gap in sink.gaps_s], n=100)
    slow = f" (transfers {transfer['transfer_gib_s']} GiB/s + {transfer['transfer_latency_ms']} ms)" if transfer else ""
    share = f"{remote / len(watched):.0%}" if decisions else "-"
    return (
        f"| `{setting}`{slow} | {share} | {first[49]:.0f} / {first[98]:.0f} |"
        f" {gaps[49]:.1f} / {gaps[98]:.1f} | {max(max(sink.gaps_s) for sink in watched) * 1e3:.0f} |"
    )


@click.command()
@click.option("--seconds", default=30.0, show_default=True, help="How long each fleet is asked.")
@click.option("--rate", default=10.0, show_default=True, help="Requests a second.")
def main(seconds: float, rate: float) -> None:
    """Print a line of the table for every fleet."""
    click.echo(
        "| fleet | prefilled elsewhere | first token ms, p50 / p99 | between tokens ms, p50 / p99 | longest gap ms |"
    )
    click.echo("|---|---|---|---|---|")
    for setting, transfer in FLEETS:
        click.echo(asyncio.run(_measure(setting, transfer, seconds, rate)))


if __name__ == "__main__":
    main()
