"""The formats of a report, by the names that --format takes."""

from collections.abc import Callable, Sequence
from importlib import import_module

from tritium.migration.finding import Audit

FORMATS = ("text", "json", "sarif", "html", "markdown", "github", "csv")


def written(audits: Sequence[Audit], form: str) -> str:
    """Write audits in one of the formats; only its own module is loaded."""
    writer: Callable[[Sequence[Audit]], str] = getattr(import_module(f"tritium.migration.reports.{form}"), f"as_{form}")
    return writer(audits)
