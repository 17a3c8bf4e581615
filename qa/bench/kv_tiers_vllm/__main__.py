"""`python -m qa.bench.kv_tiers_vllm COMMAND`: what tiers of KV are worth to a real vLLM on this machine.

The model is a Llama of 101 million random parameters, made on the first run in the folder that `--model` names.
"""

import asyncio
import logging
import tempfile
from pathlib import Path

import click
import structlog
from qa.bench.kv_tiers_vllm import crossover, slow, users
from qa.bench.kv_tiers_vllm.bucket import bucket
from qa.bench.kv_tiers_vllm.model import make_llama

_MODEL = click.option(
    "--model",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(tempfile.gettempdir()) / "tritium_llama_100m",
    show_default=True,
    help="Where the model is, or is made.",
)
_SCRATCH = click.option(
    "--disk",
    "scratch",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(tempfile.gettempdir()),
    show_default=True,
    help="Below this directory the disk tiers lie.",
)


@click.group()
def main() -> None:
    """Measure vLLM with tiers below its device."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


@main.command("crossover")
@_MODEL
@_SCRATCH
@click.option("--tier", "tiers", multiple=True, default=("host", "disk", "object"), show_default=True)
@click.option("--length", "lengths", multiple=True, default=(64, 128, 256, 512, 1024, 2048, 4096), show_default=True)
@click.option("--rounds", default=4, show_default=True)
def crossover_command(
    folder: Path, scratch: Path, tiers: tuple[str, ...], lengths: tuple[int, ...], rounds: int
) -> None:
    """Print the time to the first token by length: computed, from the device, from each tier."""
    make_llama(folder)
    click.echo("| tier | prompt tokens | computed ms | device ms | tier ms | tier / computed | tokens fetched |")
    click.echo("|---|---|---|---|---|---|---|")
    told = []
    with bucket() as store, tempfile.TemporaryDirectory(dir=scratch) as made:
        settings = {
            "host": "host=3GiB",
            "disk": f"disk=3GiB:{made}",
            "object": f"object=3GiB:s3://bucket/kv,object_endpoint={store.endpoint}",
        }
        for number, tier in enumerate(tiers):
            times = asyncio.run(crossover.measure(folder, settings[tier], lengths, rounds, seed=number))
            for row in crossover.rows(tier, times):
                click.echo(row)
            told.append(
                f"{tier}: sooner from {crossover.crossover(times)} tokens on; {times.different} answers unlike the"
                f" device's, {times.rounded} of the device's unlike the computed"
            )
    for line in told:
        click.echo(line)


@main.command("users")
@_MODEL
@click.option("--users", "people", default=80, show_default=True)
@click.option("--turns", default=10, show_default=True)
@click.option("--at-once", default=2, show_default=True, help="How many users wait for an answer at a time.")
def users_command(folder: Path, people: int, turns: int, at_once: int) -> None:
    """Print the time to the first token of many users' turns, with the host tier and without."""
    make_llama(folder)
    workload = users.Workload(people, turns, at_once=at_once)
    without, with_tiers = asyncio.run(users.play(folder, "host=2GiB", workload))
    for line in users.report(workload, without, with_tiers):
        click.echo(line)


@main.command("slow")
@_MODEL
@_SCRATCH
@click.option("--times", "factors", multiple=True, default=(0.9, 10.0), show_default=True, help="Tier over computing.")
@click.option("--length", "lengths", multiple=True, default=(256, 512, 1024, 2048), show_default=True)
@click.option("--rounds", default=7, show_default=True)
def slow_command(
    folder: Path, scratch: Path, factors: tuple[float, ...], lengths: tuple[int, ...], rounds: int
) -> None:
    """Print how much later than computing the first token of a prompt is that a slow tier holds."""
    make_llama(folder)
    click.echo("| tier / computing | prompt tokens | fresh ms | held ms | held / fresh |")
    click.echo("|---|---|---|---|---|")
    told = []
    for times in factors:
        with tempfile.TemporaryDirectory(dir=scratch) as made:
            (Path(made) / "faults").mkdir()
            measured = asyncio.run(slow.measure(folder, Path(made), lengths, rounds, times))
        for row in slow.rows(times, measured):
            click.echo(row)
        late = " ".join(f"{ratio:.2f}" for ratio in measured.turned)
        told.append(f"{times:g}: {measured.fetched} held prompts fetched; right after it turned slow: {late}")
    for line in told:
        click.echo(line)


if __name__ == "__main__":
    main()
