"""A comparison in words and numbers: for people (text, markdown), for sheets (csv) and for programs (json)."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Literal

import msgspec

from tritium.simulation.summary import Summary

Format = Literal["text", "markdown", "csv", "json"]

FORMATS: tuple[Format, ...] = ("text", "markdown", "csv", "json")

_COLUMNS: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("policy", lambda row: row.policy),
    ("TTFT p50 ms", lambda row: f"{row.ttft_p50_s * 1e3:.0f}"),
    ("p99 ms", lambda row: f"{row.ttft_p99_s * 1e3:.0f}"),
    ("mean ms", lambda row: f"{row.ttft_mean_s * 1e3:.0f}"),
    ("ITL p50 ms", lambda row: f"{row.itl_p50_s * 1e3:.1f}"),
    ("p99 ms", lambda row: f"{row.itl_p99_s * 1e3:.1f}"),
    ("tokens/s", lambda row: f"{row.tokens_s:.0f}"),
    ("good/s", lambda row: f"{row.goodput_s:.2f}"),
    ("good", lambda row: f"{row.good_share:.1%}"),
    ("hits", lambda row: f"{row.hit_ratio:.3f}"),
    ("busiest/idlest", lambda row: f"{row.spread:.2f}"),
    ("busy", lambda row: f"{row.busy_share:.0%}"),
    ("refused", lambda row: str(row.refused)),
)


def render(rows: Sequence[Summary], form: Format) -> str:
    """Return the table of a comparison, a row a policy."""
    match form:
        case "json":
            return msgspec.json.format(msgspec.json.encode([asdict(row) for row in rows]), indent=2).decode()
        case "csv":
            return _csv(rows)
        case "markdown":
            lines = [[head for head, _ in _COLUMNS], ["---"] * len(_COLUMNS), *map(_cells, rows)]
            return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        case "text":
            return _text([[head for head, _ in _COLUMNS], *map(_cells, rows)])


def _cells(row: Summary) -> list[str]:
    return [write(row) for _, write in _COLUMNS]


def _text(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in lines
    )


def _csv(rows: Sequence[Summary]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [field.name for field in fields(Summary)]
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    return out.getvalue().rstrip("\n")
