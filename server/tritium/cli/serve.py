"""`tritium serve`: settings from the command line, the environment and a file, then the server until told to stop."""

import dataclasses
from pathlib import Path
from typing import Any, get_origin

import click

from tritium.cli.options import ServeOptions, SettingsError, describe, element_type, load


def _option(f: "dataclasses.Field[Any]") -> click.Option:
    name = "--" + f.name.replace("_", "-")
    kind = element_type(f)
    default = f.default if f.default is not dataclasses.MISSING else None
    shown = "" if get_origin(f.type) is tuple or default in ("", None) else f"  [{str(default).lower()}]"
    extra: dict[str, Any] = {"multiple": get_origin(f.type) is tuple}
    if f.metadata["choices"]:
        extra["type"] = click.Choice(f.metadata["choices"])
    elif kind is not bool:
        extra["type"] = kind
    declaration = f"{name}/--no-{name[2:]}" if kind is bool else name
    # No click default: what was not given must not hide the file or the environment.
    return click.Option([declaration], default=None, help=f.metadata["help"] + shown, **extra)


class SettingsCommand(click.Command):
    """A command whose help lists the settings by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a group of settings."""
        groups: dict[str, list[tuple[str, str]]] = {}
        by_name = {f.name: f.metadata["group"] for f in dataclasses.fields(ServeOptions)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(by_name.get(parameter.name or "", "this command"), []).append(record)
        for group, records in groups.items():
            with formatter.section(group.capitalize()):
                formatter.write_dl(records)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != ()}


def _serve(repositories: tuple[str, ...], config: Path | None, *, print_config: bool, **values: Any) -> None:
    try:
        loaded = load(_given({"repositories": repositories, **values}), config)
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
    callback=_serve,
    help="""Serve model repositories and language models.

    Every setting can also be given in the environment (TRITIUM_HTTP_PORT=8000) or in a TOML file
    (--config): the command line wins over the environment, the environment over the file.
    """,
    params=[
        click.Argument(["repositories"], nargs=-1, type=click.Path(), metavar="[REPOSITORY]..."),
        *(_option(f) for f in dataclasses.fields(ServeOptions) if f.name != "repositories"),
        click.Option(["--config"], type=click.Path(path_type=Path), help="Read settings from this TOML file."),
        click.Option(["--print-config"], is_flag=True, help="Show every setting and where it came from, and stop."),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
