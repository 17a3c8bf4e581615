"""`tritium key NAME`: make an API key. It is shown once; the file that the server reads holds only its hash."""

import json

import click

from tritium.openai.keys.entry import KeyEntry, check_entry, key_hash, new_key


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.option("--model", "models", multiple=True, help="A model it may use, * for any characters; repeat it [all].")
@click.option("--requests-per-minute", type=click.IntRange(1), help="Most requests a minute [any number].")
@click.option("--tokens-per-minute", type=click.IntRange(1), help="Most tokens a minute, prompts included.")
@click.option("--concurrent", type=click.IntRange(1), help="Most requests at once [any number].")
@click.option("--admin", is_flag=True, help="Let it load and unload models and adapters.")
def key(
    name: str,
    models: tuple[str, ...],
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrent: int | None,
    *,
    admin: bool,
) -> None:
    """Make an API key for NAME.

    The key goes to standard error, its entry to standard output:

        tritium key team-a --tokens-per-minute 200000 >> keys.toml

        tritium serve model_repository --openai-keys keys.toml
    """
    made = new_key()
    entry = KeyEntry(
        name, key_hash(made), models or None, requests_per_minute, tokens_per_minute, concurrent, admin=admin
    )
    if fault := check_entry(entry):
        raise click.UsageError(fault)
    click.echo(f"{name}: {made}\nIt is not shown again.", err=True)
    click.echo("[[keys]]")
    for field in KeyEntry.__struct_fields__:
        value = getattr(entry, field)
        if value is not None and value is not False:
            # TOML writes strings, whole numbers, booleans and lists of strings as JSON does.
            click.echo(f"{field} = {json.dumps(value)}")
