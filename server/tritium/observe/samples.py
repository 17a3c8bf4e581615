"""Samples, and how Prometheus reads them: grouped by family, each family under its HELP and TYPE.

Source: the Prometheus text exposition format, version 0.0.4.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a family measures."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. `suffix` is what histograms and summaries add to their family's name: _bucket, _sum, _count."""

    family: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    kind: Kind = Kind.GAUGE
    help: str = ""
    suffix: str = ""


MetricSource = Callable[[], Iterable[Sample]]
"""Something that is asked for its samples when metrics are scraped, and costs nothing until then."""


def render(samples: Iterable[Sample]) -> str:
    """Lay samples out as text; families keep the order in which they first come, and their first sample's HELP."""
    families: dict[str, list[Sample]] = {}
    for sample in samples:
        families.setdefault(sample.family, []).append(sample)
    lines: list[str] = []
    for family, members in families.items():
        lines.append(f"# HELP {family} {_escape(members[0].help)}")
        lines.append(f"# TYPE {family} {members[0].kind}")
        lines.extend(f"{family}{s.suffix}{_labels(s.labels)} {number(s.value)}" for s in members)
    return "\n".join(lines) + "\n" if lines else ""


def number(value: float) -> str:
    """Write a value as Triton does: whole numbers without a point, others to 16 digits."""
    if math.isfinite(value):
        return str(int(value)) if value == int(value) else f"{value:.16g}"
    return "Nan" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value, quoted=True)}"' for name, value in labels.items()) + "}"


def _escape(text: str, *, quoted: bool = False) -> str:
    escaped = text.replace("\\", r"\\").replace("\n", r"\n")
    return escaped.replace('"', r"\"") if quoted else escaped
