"""`tritium serve`: settings from the command line, the environment and a file, then the server until told to stop."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from tritium.cli.options import ServeOptions, SettingsError, describe, load
from tritium.cli.settings_command import SettingsCommand, given, option_of


def _serve(repositories: tuple[str, ...], config: Path | None, *, print_config: bool, **values: Any) -> None:
    try:
        loaded = load(given({"repositories": repositories, **values}), config)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    for note in loaded.notes:
        click.echo(f"tritium: {note}", err=True)
    if print_config:
        click.echo(describe(loaded))
        return
    from tritium.cli.run import run  # noqa: PLC0415  (--help and --print-config must not import the server)

    raise SystemExit(run(loaded.options))


serve = SettingsCommand(
    "serve",
    settings=ServeOptions,
    callback=_serve,
    help="""Serve model repositories and language models.

    Every setting can also be given in the environment (TRITIUM_HTTP_PORT=8000) or in a TOML file
    (--config): the command line wins over the environment, the environment over the file.
    """,
    params=[
        click.Argument(["repositories"], nargs=-1, type=click.Path(), metavar="[REPOSITORY]..."),
        *(option_of(f) for f in dataclasses.fields(ServeOptions) if f.name != "repositories"),
        click.Option(["--config"], type=click.Path(path_type=Path), help="Read settings from this TOML file."),
        click.Option(["--print-config"], is_flag=True, help="Show every setting and where it came from, and stop."),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
