"""`tritium worker`: one engine that fronts on this and other machines find and use."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from tritium.cli.options import SettingsError, describe, load_as
from tritium.cli.settings_command import SettingsCommand, given, option_of
from tritium.cli.worker_options import WorkerOptions


def _worker(model: str | None, config: Path | None, *, print_config: bool, **values: Any) -> None:
    try:
        loaded = load_as(WorkerOptions, given({"model": model, **values}), config)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    for note in loaded.notes:
        click.echo(f"tritium: {note}", err=True)
    if print_config:
        click.echo(describe(loaded))
        return
    from tritium.cli.worker_run import run  # noqa: PLC0415  (--help must not import the engine)

    run(loaded.options)


worker = SettingsCommand(
    "worker",
    settings=WorkerOptions,
    callback=_worker,
    help="""Serve one model's engine to the fronts that find it.

    MODEL is the folder of a repository's model, a model's own folder, or the name of a repository on the Hugging
    Face hub. Fronts are started by: tritium serve --role front --discovery ...

    Every setting can also be given in the environment (TRITIUM_DISCOVERY=etcd://HOST:2379) or in a TOML file
    (--config): the command line wins over the environment, the environment over the file.
    """,
    params=[
        click.Argument(["model"], required=False, metavar="MODEL"),
        *(option_of(f) for f in dataclasses.fields(WorkerOptions) if f.name != "model"),
        click.Option(["--config"], type=click.Path(path_type=Path), help="Read settings from this TOML file."),
        click.Option(["--print-config"], is_flag=True, help="Show every setting and where it came from, and stop."),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
