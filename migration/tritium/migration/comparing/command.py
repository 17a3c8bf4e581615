"""The command `dynamo-migrate verify`."""

import sys
from contextlib import closing
from pathlib import Path

import click

_FORMATS = ("text", "markdown", "json", "csv")


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only this model; may be repeated.")
@click.option(
    "--recorded",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Send the calls of this file, written by dynamo-migrate record, instead of made ones.",
)
@click.option("--requests", "rounds", default=6, show_default=True, help="Ordinary made requests for each model.")
@click.option("--again", default=5, show_default=True, help="How often each is sent again for its time; 0: no times.")
@click.option("--seed", default=0, show_default=True, help="Of the made requests.")
@click.option("--tolerance", default=1.0, show_default=True, help="Times the usual difference of two floats.")
@click.option("--text-agreement", default=0.9, show_default=True, help="Share of generated text that must agree.")
@click.option("--any-message", is_flag=True, help="Errors need only the same status.")
@click.option(
    "--slower", type=float, metavar="FACTOR", help="Fail where a median takes more than FACTOR times as long."
)
@click.option(
    "--cafile",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Certificates (PEM) by which those of https and grpcs are checked.",
)
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds for one call.")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="text", help="How the report is written.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the report to a file.")
def verify(
    old: str,
    new: str,
    models: tuple[str, ...],
    recorded: Path | None,
    rounds: int,
    again: int,
    seed: int,
    tolerance: float,
    text_agreement: float,
    *,
    any_message: bool,
    slower: float | None,
    cafile: Path | None,
    timeout_s: float,
    form: str,
    output: Path | None,
) -> None:
    """Ask the servers at OLD and NEW the same, and say what differs.

    OLD and NEW are http://host:8000 or grpc://host:8001 (https, grpcs: with TLS), or ports of OpenAI's API
    (http://host:9000), of which NEW alone may be one: then generated text is compared.

    Compares each model's metadata and configuration, then answers, streams and errors to requests made from the
    configuration, or to recorded ones; says how long both took. OLD is asked twice, to know what varies by itself.
    Models may see these requests as real ones: they are inferences, nothing is loaded or unloaded.

    Exits with 0 when nothing differs, 1 when something does (or is slower), 2 when a server cannot be asked.
    """
    from tritium.migration.comparing.call import Unreachable  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.comparing.difference import Tolerance  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.comparing.endpoint import connect  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.comparing.report import line, written  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.comparing.verify import Asking, Verifier  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.recording.file import BadRecording, read  # noqa: PLC0415  (not paid by --help)

    asking = Asking(models, rounds, again, seed, Tolerance(tolerance, text_agreement, messages=not any_message))
    watched = output is not None and sys.stderr.isatty()
    try:
        recording = read(recorded) if recorded else None
        if recording is not None and recording.cut_off:
            click.echo(f"dynamo-migrate: {recorded} ends in the middle of a call, which is left away", err=True)
        with closing(connect(old, timeout_s, cafile)) as first, closing(connect(new, timeout_s, cafile)) as second:
            found = Verifier(first, second, asking).run(
                recording.calls if recording else None,
                lambda model: click.echo(line(model), err=True) if watched else None,
            )
    except (Unreachable, BadRecording) as error:
        click.echo(f"dynamo-migrate: {error}", err=True)
        raise SystemExit(2) from None
    report = written(found, form)
    if output is None:
        click.echo(report, nl=False)
    else:
        output.write_text(report, encoding="utf-8")
    late = found.slower_than(slower) if slower is not None else ()
    for model in late:
        click.echo(f"dynamo-migrate: {model.name} is slower than {slower:g} times", err=True)
    raise SystemExit(0 if found.same and not late else 1)
