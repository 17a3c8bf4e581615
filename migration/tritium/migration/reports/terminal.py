"""The first screen: how much of a deployment moves as it is, and what asks for the most work."""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tritium.migration.finding import Audit
from tritium.migration.reports.fate import Fate, most_frequent, shares
from tritium.migration.rules.page import page_of
from tritium.migration.rules.registry import rule

_COLOURS = {
    Fate.AS_IS: "green",
    Fate.REWRITTEN: "cyan",
    Fate.BY_HAND: "yellow",
    Fate.ANSWER: "magenta",
    Fate.REBUILT: "dark_orange",
    Fate.UNSUPPORTED: "red",
    Fate.BROKEN: "bright_black",
}
_BAR = 60
_RULES = 8
_DEPLOYMENTS = 20


def show(audits: Sequence[Audit], console: Console) -> None:
    """Print the summary of one or several audits."""
    console.print(summary(audits))


def summary(audits: Sequence[Audit]) -> RenderableType:
    """Return the summary: shares in percent, deployments by score where there are several, rules by their findings."""
    deployed = [audit for audit in audits if audit.is_deployment]
    models = sum(len(audit.models) for audit in deployed)
    files = sum(len(audit.launches) for audit in deployed)
    head = f"{_count(models, 'model')}, {_count(files, 'file')} that start{'s' * (files == 1)} Triton"
    if len(audits) > 1:
        head = f"{len(audits)} folders, {len(deployed)} of them deployments: {head}"
    if not deployed:
        clients = sum(len(audit.clients) for audit in audits)
        head = f"no Triton deployment{f'; {clients} files call one' if clients else ''}"
    parts: list[RenderableType] = [Text(head, style="bold"), *_bar(deployed)]
    if len(audits) > 1:
        parts.append(_deployments(deployed))
    elif deployed:
        parts.append(Text(f"score {deployed[0].score} of 100"))
    if asking := most_frequent(deployed):
        parts.append(_rules(asking))
    return Group(*parts)


def _bar(audits: Sequence[Audit]) -> list[RenderableType]:
    found = shares(audits)
    if not found:
        return []
    bar, legend = Text(), Table.grid(padding=(0, 2))
    for share in found:
        bar.append("█" * max(1, round(share.percent * _BAR / 100)), style=_COLOURS[share.fate])
        legend.add_row(Text(f"{share.percent:>3} %", style=_COLOURS[share.fate]), share.fate.value, str(share.count))
    return [bar, legend]


def _deployments(audits: Sequence[Audit]) -> RenderableType:
    table = Table("deployment", "score", "models", "files", box=None, header_style="bold", pad_edge=False)
    for audit in sorted(audits, key=lambda audit: (audit.score, str(audit.root)))[:_DEPLOYMENTS]:
        table.add_row(audit.root.name, str(audit.score), str(len(audit.models)), str(len(audit.launches)))
    if len(audits) > _DEPLOYMENTS:
        table.add_row(f"and {len(audits) - _DEPLOYMENTS} more", "", "", "")
    return table


def _rules(asking: Sequence[tuple[str, int]]) -> RenderableType:
    table = Table("asks most", "", "", box=None, header_style="bold", pad_edge=False)
    for name, count in asking[:_RULES]:
        known = rule(name)
        table.add_row(name, str(count), page_of(type(known)).summary if known else "")
    return table


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
