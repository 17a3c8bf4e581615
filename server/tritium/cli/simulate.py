"""`tritium simulate`: play a workload through a fleet in virtual time, once by every policy, and compare them."""

from pathlib import Path

import click

from tritium.backends.mocker.hardware import GPUS, MODELS
from tritium.cluster.spec import parse_fleet
from tritium.core.errors import InferenceError
from tritium.simulation.plot import draw
from tritium.simulation.policy import POLICIES
from tritium.simulation.request import Workload
from tritium.simulation.scenario import Scenario, ideal_hits, play
from tritium.simulation.summary import Goal
from tritium.simulation.synthetic import KINDS, make_workload
from tritium.simulation.table import FORMATS, Format, render
from tritium.simulation.traces import read_trace

_POSITIVE = click.IntRange(1)
_ABOVE_ZERO = click.FloatRange(0, min_open=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--trace", type=click.Path(path_type=Path), help="A file of Mooncake's format.")
@click.option(
    "--workload", type=click.Choice(tuple(KINDS)), help="A workload made from a seed, where there is no trace."
)
@click.option("--fleet", default="workers=4", help="As `serve` takes it; its router= is left to --policies.")
@click.option("--policies", default="kv,round_robin,dynamo", help=f"Of {', '.join(POLICIES)}, dynamo:SCALE.")
@click.option("--gpu", type=click.Choice(tuple(GPUS)), default="h100", help="What a worker runs on.")
@click.option("--gpus", type=_POSITIVE, default=1, help="How many of them a worker has.")
@click.option("--model", type=click.Choice(tuple(MODELS)), default="8b", help="What a worker runs.")
@click.option("--precision", type=click.Choice(("bf16", "fp8")), default="bf16", help="Of its weights.")
@click.option("--blocks", type=_POSITIVE, help="KV blocks a worker has [what the GPU's memory leaves].")
@click.option("--block-tokens", type=_POSITIVE, help="Tokens a block [a trace's 512, else 64].")
@click.option("--step-tokens", type=_POSITIVE, default=8_192, help="Tokens a step computes at most.")
@click.option("--sequences", type=_POSITIVE, default=1_024, help="Sequences a worker runs at once.")
@click.option("--limit", type=click.IntRange(0), default=0, help="The first requests of the trace; 0: all.")
@click.option("--pace", type=_ABOVE_ZERO, default=1.0, help="The trace so many times as fast.")
@click.option("--copies", type=_POSITIVE, default=1, help="So many traces at once that share nothing.")
@click.option("--shrink", type=_POSITIVE, default=1, help="Divide the trace's lengths.")
@click.option("--rate", type=_ABOVE_ZERO, default=2.0, help="Requests a second of the workload.")
@click.option("--duration", type=_ABOVE_ZERO, default=600.0, help="Seconds in which they come.")
@click.option("--streams", type=click.IntRange(0), default=0, help="So many requests at once; 0: by their times.")
@click.option("--ttft-ms", type=_ABOVE_ZERO, default=2_000.0, help="A good request's first token comes within.")
@click.option("--itl-ms", type=_ABOVE_ZERO, default=50.0, help="A good request's tokens follow within, on the average.")
@click.option("--seed", type=int, default=0, help="Of the workload, and of policies that draw lots.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", help="Of the table.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Write a picture (SVG) there.")
def simulate(
    trace: Path | None,
    workload: str | None,
    fleet: str,
    policies: str,
    gpu: str,
    gpus: int,
    model: str,
    precision: str,
    blocks: int | None,
    block_tokens: int | None,
    step_tokens: int,
    sequences: int,
    limit: int,
    pace: float,
    copies: int,
    shrink: int,
    rate: float,
    duration: float,
    streams: int,
    ttft_ms: float,
    itl_ms: float,
    seed: int,
    form: Format,
    plot: Path | None,
) -> None:
    """Compare policies of routing on a fleet that is not there.

    Router, scheduler and cache are the real ones; time and tokens are not:

        tritium simulate --workload chat --rate 20 --fleet workers=16

        tritium simulate --trace conversation_trace.jsonl --fleet workers=8 --policies kv,dynamo
    """
    if (trace is None) == (workload is None):
        raise click.UsageError("give either --trace FILE or --workload KIND")
    try:
        played: Workload
        if trace is not None:
            played = read_trace(trace, limit=limit, pace=pace, shrink=shrink, copies=copies, block_tokens=block_tokens)
        else:
            assert workload is not None
            played = make_workload(workload, rate=rate, duration_s=duration, block_tokens=block_tokens or 64, seed=seed)
        engine = {
            "max_num_batched_tokens": step_tokens,
            "max_num_seqs": sequences,
            "mocker": {"gpu": gpu, "gpus": gpus, "model": model, "precision": precision},
        }
        if blocks is not None:
            engine["num_gpu_blocks_override"] = blocks
        scenario = Scenario(
            parse_fleet(fleet), played, engine, Goal(ttft_ms / 1e3, itl_ms / 1e3), streams=streams, seed=seed
        )
        outcomes = [play(scenario, policy.strip()) for policy in policies.split(",")]
    except InferenceError as error:
        raise click.UsageError(error.told) from None
    title = f"{played.name}, {fleet}, {gpus} {gpu} {model} {precision}, best possible hits {ideal_hits(played):.3f}"
    if form in ("text", "markdown"):
        click.echo(f"{title}\n")
    click.echo(render([outcome.summary for outcome in outcomes], form))
    if plot is not None:
        try:
            plot.write_text(draw(title, outcomes))
        except OSError as error:
            raise click.ClickException(f"{plot}: {error.strerror}") from None
