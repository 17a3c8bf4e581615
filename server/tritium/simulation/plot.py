"""A comparison as one picture: an SVG without scripts or fonts of its own, four panels, a colour a policy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tritium.simulation.scenario import Outcome
from tritium.simulation.summary import first_tokens_s, gaps_s, quantile

_COLOURS = ("#0b6e4f", "#c8553d", "#3d5a80", "#e0a100", "#7b4b94", "#5f6b6d", "#2a9d8f", "#9c6644")
_WIDTH, _HEIGHT, _MARGIN = 460, 260, 46
_POINTS = 200
_SPACE = 26


@dataclass(frozen=True, slots=True)
class _Panel:
    """A panel's place, and how values become points in it; x is logarithmic where `log`."""

    left: float
    top: float
    low: float
    high: float
    most: float
    log: bool = False

    def x(self, value: float) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        at = math.log(max(value, self.low)) if self.log else value
        return self.left + _MARGIN + (min(max(at, low), high) - low) / (high - low or 1) * (_WIDTH - 2 * _MARGIN)

    def y(self, value: float) -> float:
        return self.top + _HEIGHT - _MARGIN - min(value / self.most, 1) * (_HEIGHT - 2 * _MARGIN)


def draw(title: str, outcomes: Sequence[Outcome]) -> str:
    """Return the picture of a comparison."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * _WIDTH} {2 * _HEIGHT + 2 * _SPACE}"',
        ' font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        _words(_MARGIN, 18, title, size=14),
        *_legend([outcome.summary.policy for outcome in outcomes]),
        *_distribution(
            "first token after, ms (share of requests)", [first_tokens_s(o.records) for o in outcomes], 0, 0
        ),
        *_distribution("between tokens, ms (share of requests)", [gaps_s(o.records) for o in outcomes], 1, 0),
        *_bars("prompt tokens found cached; good requests", outcomes, 0, 1),
        *_loads("requests of each worker, busiest first, over their mean", outcomes, 1, 1),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _place(column: int, row: int) -> tuple[float, float]:
    return column * _WIDTH, 2 * _SPACE + row * _HEIGHT


def _distribution(title: str, seconds: Sequence[Sequence[float]], column: int, row: int) -> list[str]:
    """Draw what share of requests took so long at most."""
    ordered = [sorted(value * 1e3 for value in each) for each in seconds]
    low = max(0.1, min((each[0] for each in ordered if each), default=1.0))
    high = max(low * 10, max((each[-1] for each in ordered if each), default=10.0))
    panel = _Panel(*_place(column, row), low, high, 1.0, log=True)
    lines = _frame(
        panel, title, [10.0**power for power in range(math.ceil(math.log10(low)), math.ceil(math.log10(high)))]
    )
    for number, values in enumerate(ordered):
        shares = [place / _POINTS for place in range(1, _POINTS + 1)]
        lines.append(_curve(number, [(panel.x(quantile(values, share)), panel.y(share)) for share in shares]))
    return lines


def _bars(title: str, outcomes: Sequence[Outcome], column: int, row: int) -> list[str]:
    panel = _Panel(*_place(column, row), 0, 2, 1.0)
    lines = _frame(panel, title, [])
    width = (panel.x(1) - panel.x(0)) * 0.8 / len(outcomes)
    for number, outcome in enumerate(outcomes):
        for group, value in enumerate((outcome.summary.hit_ratio, outcome.summary.good_share)):
            left, top = panel.x(group + 0.1) + number * width, panel.y(value)
            lines.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width * 0.9:.1f}" height="{panel.y(0) - top:.1f}"'
                f' fill="{_COLOURS[number % len(_COLOURS)]}"/>'
            )
            lines.append(_words(left, top - 3, f"{value:.3f}", size=9))
    return [*lines, _words(panel.x(0.4), panel.y(0) + 16, "cached"), _words(panel.x(1.4), panel.y(0) + 16, "good")]


def _loads(title: str, outcomes: Sequence[Outcome], column: int, row: int) -> list[str]:
    every = [sorted(outcome.records.by_worker.values(), reverse=True) for outcome in outcomes]
    shares = [[count * len(counts) / sum(counts) for count in counts] for counts in every]
    workers = max(map(len, shares), default=0)
    panel = _Panel(*_place(column, row), 1, max(2, workers), max(2.0, *(max(each, default=0.0) for each in shares)))
    lines = _frame(panel, title, [1.0, float(workers)])
    for number, each in enumerate(shares):
        lines.append(_curve(number, [(panel.x(place), panel.y(share)) for place, share in enumerate(each, 1)]))
    return lines


def _frame(panel: _Panel, title: str, ticks: Sequence[float]) -> list[str]:
    left, right, top, bottom = panel.left + _MARGIN, panel.left + _WIDTH - _MARGIN, panel.y(panel.most), panel.y(0)
    lines = [_words(left, top - 8, title)]
    for share in (0, 0.25, 0.5, 0.75, 1):
        at = panel.y(share * panel.most)
        lines.append(f'<path d="M{left} {at:.1f}H{right}" stroke="#ddd"/>')
        lines.append(_words(left - 32, at + 4, f"{share * panel.most:.2g}"))
    for value in ticks:
        lines.append(f'<path d="M{panel.x(value):.1f} {top:.1f}V{bottom:.1f}" stroke="#eee"/>')
        lines.append(_words(panel.x(value) - 8, bottom + 14, f"{value:g}"))
    return lines


def _legend(policies: Sequence[str]) -> list[str]:
    lines, left = [], float(_MARGIN)
    for number, policy in enumerate(policies):
        lines.append(f'<rect x="{left}" y="27" width="10" height="10" fill="{_COLOURS[number % len(_COLOURS)]}"/>')
        lines.append(_words(left + 14, 36, policy))
        left += 30 + 7 * len(policy)
    return lines


def _curve(number: int, points: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-width="1.6"/>'


def _words(left: float, top: float, words: str, *, size: int = 11) -> str:
    return f'<text x="{left:.1f}" y="{top:.1f}" font-size="{size}" fill="#333">{escape(words)}</text>'
