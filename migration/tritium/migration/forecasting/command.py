"""The command `dynamo-migrate forecast`."""

from pathlib import Path

import click

from tritium.migration.forecasting.machine import GPUS


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--gpu", type=click.Choice(list(GPUS)), default="h100", show_default=True, help="The kind of GPU.")
@click.option("--from", "server", metavar="URL", help="A running Triton whose statistics give the rate.")
@click.option("--model", help="The model's name there.")
@click.option("--seconds", default=10.0, show_default=True, help="How long its statistics are watched.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Requests a second, instead of --from.")
@click.option("--prompt-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Of a request.")
@click.option("--answer-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Of a request.")
@click.option("--first-token", default=1.0, show_default=True, help="Seconds within which the first token comes.")
@click.option("--between-tokens", default=0.05, show_default=True, help="Seconds within which each further one comes.")
@click.option("--bytes-per-weight", type=float, help="Of all weights, instead of what the configuration says.")
@click.option("--kv-bytes", default=2.0, show_default=True, help="Bytes of a number in the cache; 1 for FP8.")
@click.option(
    "--format", "form", type=click.Choice(("text", "markdown", "json")), default="text", help="Of the report."
)
def forecast(
    checkpoint: Path,
    gpu: str,
    server: str | None,
    model: str | None,
    seconds: float,
    rate: float | None,
    prompt_tokens: int,
    answer_tokens: int,
    first_token: float,
    between_tokens: float,
    bytes_per_weight: float | None,
    kv_bytes: float,
    form: str,
) -> None:
    """Say how many GPUs a language model needs, and what prefill and decode apart would change.

    CHECKPOINT is its folder, a config.json, the config.json of a TensorRT-LLM engine, or a model repository with one
    language model whose checkpoint is here. The load is --rate, or the
    rate that a running Triton has now; without either, one request a second. Where aiconfigurator is installed it is
    asked, too. Exits with 2 where something is missing.
    """
    from tritium.migration.forecasting.aiconfigurator import Question, opinion  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.forecasting.checkpoint import BadCheckpoint, read_size  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.forecasting.forecast import Load  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.forecasting.forecast import forecast as calculate  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.forecasting.report import written  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.forecasting.repository import config_of  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.forecasting.usage import NoStatistics, measure  # noqa: PLC0415  (not paid by --help)

    if bool(server) != bool(model) or (server and rate):
        raise click.UsageError("--from needs --model, and neither goes with --rate")
    try:
        config = config_of(checkpoint)
        size = read_size(config, bytes_per_weight)
        usage = measure(server, model, seconds) if server and model else None
    except (BadCheckpoint, NoStatistics) as error:
        click.echo(f"dynamo-migrate: {error}", err=True)
        raise SystemExit(2) from None
    if usage and usage.rate:
        rate, told = usage.rate, f"{usage.rate:.2f} requests a second, as {server} had just now"
    elif rate:
        told = f"{rate:g} requests a second, as given"
    else:
        rate, told = 1.0, "one request a second" + (f": {server} had none in {seconds:g} s" if usage else "")
    load = Load(rate, prompt_tokens, answer_tokens, first_token, between_tokens)
    other = opinion(Question(config.parent if config.is_file() else config, gpu, load))
    click.echo(written(calculate(size, GPUS[gpu], load, kv_bytes), usage, other, (told,), form), nl=False)
