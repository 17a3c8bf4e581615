"""The metrics of KV tiers as a table: a row a count, a column a tier, sums over all workers, sizes with units."""

import re
from collections.abc import Iterable

_SAMPLE = re.compile(r"tritium_kv_(tier|store)_(\w+?)(?:_total)?(?:\{(.*)\})? (\S+)")
_TIER = re.compile(r'tier="(\w+)"')
_WIDTH = 14
_ORDER = ("host", "peer", "disk", "object")


def size(size_bytes: float) -> str:
    """Return bytes with a unit, such as `1.5 GiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def table(lines: Iterable[str]) -> list[str]:
    """Return the table of what a server's metrics tell of tiers; nothing where they tell of none."""
    tiers: dict[str, dict[str, float]] = {}
    store: dict[str, float] = {}
    for line in lines:
        match = _SAMPLE.fullmatch(line.strip())
        if match is None:
            continue
        room, name, labels, value = match[1], match[2], match[3] or "", float(match[4])
        tier = _TIER.search(labels)
        row = tiers.setdefault(name, {}) if room == "tier" else store
        column = tier[1] if room == "tier" and tier else name
        row[column] = row.get(column, 0.0) + value
    columns = [tier for tier in _ORDER if any(tier in row for row in tiers.values())]
    told = ["".join(["tier".ljust(_WIDTH + 4), *(tier.rjust(_WIDTH) for tier in columns)])] if columns else []
    for name, row in tiers.items():
        cells = (_cell(name, row.get(tier, 0.0)).rjust(_WIDTH) for tier in columns)
        told.append("".join([_words(name).ljust(_WIDTH + 4), *cells]))
    told += [f"{_words(name).ljust(_WIDTH + 4)}{_cell(name, value).rjust(_WIDTH)}" for name, value in store.items()]
    return told


def _words(name: str) -> str:
    return name.removesuffix("_bytes").removesuffix("_seconds").replace("_", " ")


def _cell(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return size(value)
    return f"{value:.3f} s" if name.endswith("_seconds") else f"{value:.0f}"
