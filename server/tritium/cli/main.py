"""The `tritium` command. Subcommands are imported when they are called, so that `--help` answers at once."""

from importlib import import_module, metadata

import click

COMMANDS = {
    "serve": ("tritium.cli.serve", "Serve model repositories and language models."),
    "worker": ("tritium.cli.worker", "Serve one model's engine to the fronts that find it."),
    "check": ("tritium.cli.check", "Check model repositories without serving them."),
    "fleet": ("tritium.cli.fleet", "Show the fleet of a language model, or change it while it serves."),
    "simulate": ("tritium.cli.simulate", "Compare ways of routing on a fleet in virtual time."),
    "kv": ("tritium.cli.kv", "Look at the tiers of KV below the device, empty them, or measure them."),
    "key": ("tritium.cli.key", "Make an API key for the OpenAI port."),
    "audit": ("tritium.migration.cli", "Say how a Triton deployment would fare (dynamo-migrate audit)."),
}


class LazyGroup(click.Group):
    """A group that lists its commands from a table and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Return the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  (click's)
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's)
        """Write the table without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for a misspelt one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415  (not paid by --help)

            close = get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"no such command '{args[0]}'" + (f"; did you mean {close[0]}?" if close else ""))
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("tritium"), prog_name="tritium")
def main() -> None:
    """Serve Triton model repositories and language models.

    One command gets to an inference:

        tritium serve model_repository
    """
