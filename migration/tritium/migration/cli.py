"""The `dynamo-migrate` command."""

from pathlib import Path

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tritium", prog_name="dynamo-migrate")
def main() -> None:
    """Move Triton deployments to Tritium."""


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="How the report is written."
)
def audit(path: Path, form: str) -> None:
    """Say what a Triton deployment below PATH holds, and whether Tritium serves it as it is.

    Finds models and the files that start Triton (Dockerfile, compose, Kubernetes YAML, shell). Changes
    nothing. Exits with 0 when everything serves as it is, 1 when something needs work, 2 when PATH cannot be audited.
    """
    from tritium.migration.audit import AuditError  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.audit import audit as run_audit  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.finding import Severity, Verdict  # noqa: PLC0415  (not paid by --help)
    from tritium.migration.report import as_json, as_text  # noqa: PLC0415  (not paid by --help)

    try:
        found = run_audit(path)
    except AuditError as error:
        click.echo(f"dynamo-migrate: {error}", err=True)
        raise SystemExit(2) from None
    click.echo(as_json(found) if form == "json" else as_text(found), nl=form == "json")
    work = any(m.verdict is not Verdict.SERVES for m in found.models) or any(
        f.severity is Severity.BLOCKER for launch in found.launches for f in launch.findings
    )
    raise SystemExit(1 if work else 0)
