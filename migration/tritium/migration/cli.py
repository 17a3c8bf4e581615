"""The `dynamo-migrate` command."""

import sys
from io import TextIOWrapper
from pathlib import Path

import click

from tritium.migration.comparing.command import verify
from tritium.migration.forecasting.command import forecast
from tritium.migration.planning import commands
from tritium.migration.recording.command import record

_FORMATS = ("text", "json", "sarif", "html", "markdown", "github", "csv")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tritium", prog_name="dynamo-migrate")
def main() -> None:
    """Move Triton deployments to Tritium."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be any bytes


main.add_command(commands.plan)
main.add_command(commands.apply)
main.add_command(commands.rollback)


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--from", "server", metavar="URL", help="Audit a running Triton instead: http://host:8000.")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="text", help="How the report is written.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the report to a file.")
@click.option("--baseline", type=click.Path(path_type=Path), help="A JSON report; what it has already fails nothing.")
@click.option("--summary", is_flag=True, help="Of the text, only the first screen.")
def audit(
    paths: tuple[Path, ...],
    server: str | None,
    form: str,
    output: Path | None,
    baseline: Path | None,
    *,
    summary: bool,
) -> None:
    """Say what Triton deployments below each PATH hold, and whether Tritium serves them as they are.

    Finds models, and what starts, watches, scales and calls Triton. Changes nothing. Exits with 0 when everything
    serves as it is, 1 when something needs work (with --baseline: something new), 2 when a PATH cannot be audited.
    """
    from tritium.migration.inquiry import Inquiry, InquiryError  # noqa: PLC0415  (not paid by --help)

    try:
        inquiry = Inquiry(paths, server, baseline)
        report = inquiry.report(form, summary=summary, to_terminal=output is None)
    except InquiryError as error:
        click.echo(f"dynamo-migrate: {error}", err=True)
        raise SystemExit(2) from None
    if output is None:
        click.echo(report, nl=form == "json")
    else:
        output.write_text(report, encoding="utf-8", errors="backslashreplace")
    if baseline is not None:
        for finding in inquiry.fresh:
            place = f"{finding.path}:{finding.line}" if finding.line else str(finding.path)
            click.echo(f"dynamo-migrate: new since {baseline}: {finding.rule} {place} {finding.message}", err=True)
        if not inquiry.fresh:
            click.echo(f"dynamo-migrate: nothing new since {baseline}", err=True)
    raise SystemExit(1 if inquiry.needs_work else 0)


@main.command()
@click.argument("name", metavar="RULE", required=False)
def explain(name: str | None) -> None:
    """Explain RULE: what it finds, why, what to do, with an example; without RULE, list them all."""
    from tritium.migration.rules.page import page_of  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.rules.registry import rule, rules  # noqa: PLC0415  (not paid by --help)

    if name is None:
        for one in rules():
            click.echo(f"{one.id}  {one.severity.value:8}  {page_of(type(one)).summary}")
        return
    known = rule(name)
    if known is None:
        click.echo(f"dynamo-migrate: there is no rule {name}; dynamo-migrate explain lists them", err=True)
        raise SystemExit(2)
    text = page_of(type(known)).markdown()
    if sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415  (only a terminal shows colours)
        from rich.markdown import Markdown  # noqa: PLC0415  (only a terminal shows colours)

        Console().print(Markdown(text))
    else:
        click.echo(text, nl=False)


main.add_command(verify)
main.add_command(forecast)
main.add_command(record)
