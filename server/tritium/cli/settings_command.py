"""A command whose options are the fields of a settings class, listed by group in its help."""

import dataclasses
from typing import Any, get_origin

import click

from tritium.cli.options import element_type


def option_of(f: "dataclasses.Field[Any]") -> click.Option:
    """Return the command line option that sets a field."""
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


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Return what was given on the command line."""
    return {name: value for name, value in values.items() if value is not None and value != ()}


class SettingsCommand(click.Command):
    """A command whose help lists the settings of a class by group."""

    def __init__(self, name: str, *, settings: type[Any], **rest: Any) -> None:
        super().__init__(name, **rest)
        self._groups = {f.name: f.metadata["group"] for f in dataclasses.fields(settings)}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a group of settings."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(self._groups.get(parameter.name or "", "this command"), []).append(record)
        for group, records in groups.items():
            with formatter.section(group.capitalize()):
                formatter.write_dl(records)
