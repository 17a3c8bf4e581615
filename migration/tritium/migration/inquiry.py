"""What the command `audit` asks: which places, in which form, and whether anything in the answer needs work."""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tritium.migration.audit import AuditError, audit
from tritium.migration.finding import Audit, Finding, Severity, Verdict
from tritium.migration.reports.baseline import BadBaseline, Baseline, read_baseline
from tritium.migration.reports.formats import written
from tritium.migration.reports.terminal import show
from tritium.migration.rules.registry import BadRule

_WIDTH = 110


class InquiryError(Exception):
    """The question cannot be answered: nothing to audit, a server that does not answer, a baseline that is none."""


class Inquiry:
    """One run of `audit`."""

    def __init__(self, paths: Sequence[Path], server: str | None, baseline: Path | None) -> None:
        if bool(paths) == bool(server):
            raise InquiryError("name a folder, or --from http://host:8000" if not paths else "a folder, or --from")
        try:
            self._baseline: Baseline | None = read_baseline(baseline) if baseline else None
            self.audits = [_running(server)] if server else list(_folders(paths))
        except (AuditError, BadBaseline, BadRule) as error:
            raise InquiryError(str(error)) from error

    def report(self, form: str, *, summary: bool, to_terminal: bool) -> str:
        """Return the report; that of a terminal begins with the summary."""
        if form != "text":
            return written(self.audits, form)
        text = io.StringIO()
        colours = to_terminal and sys.stdout.isatty()
        show(self.audits, Console(file=text, width=_WIDTH, force_terminal=colours, no_color=None if colours else True))
        return text.getvalue() + ("" if summary else "\n" + written(self.audits, "text"))

    @property
    def fresh(self) -> tuple[Finding, ...]:
        """Return the findings that ask for something and that the baseline does not have; none without a baseline."""
        if self._baseline is None:
            return ()
        return tuple(finding for one in self.audits for finding in self._baseline.fresh(one))

    @property
    def needs_work(self) -> bool:
        """Tell whether something is to be done, which a baseline does not know of."""
        if self._baseline is not None:
            return bool(self.fresh)
        return any(_needs_work(one) for one in self.audits)


def _needs_work(one: Audit) -> bool:
    return any(model.verdict is not Verdict.SERVES for model in one.models) or any(
        finding.severity is Severity.BLOCKER for launch in one.launches for finding in launch.findings
    )


def _folders(paths: Sequence[Path]) -> Iterator[Audit]:
    with _progress(len(paths)) as advance:
        for path in paths:
            yield audit(path)
            advance()


def _running(url: str) -> Audit:
    from tritium.migration.running import ServerError, audit_server  # noqa: PLC0415  (only a server needs it)

    try:
        return audit_server(url)
    except ServerError as error:
        raise InquiryError(str(error)) from error


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show how many of several folders have been read, on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("auditing"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=total < 2 or not console.is_terminal) as shown:
        task = shown.add_task("auditing", total=total)
        yield lambda: shown.advance(task)
