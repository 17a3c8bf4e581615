"""The layouts that aiconfigurator saves as tables, best first: one of aggregated ones, one of prefill and decode apart.

A row is one replica: a worker, or prefill workers with the decode workers that they feed.
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TABLE = "best_config_topn.csv"


@dataclass(frozen=True, slots=True)
class Candidate:
    """The best layout of one way that keeps the times; without prefill workers it is aggregated."""

    prefill_workers: int
    workers: int
    gpus: int
    tokens_s_gpu: float
    first_token_s: float
    between_tokens_s: float

    @property
    def cost(self) -> tuple[int, float]:
        """Return what decides between two: GPUs, then the tokens that each of them gives."""
        return self.gpus, -self.tokens_s_gpu

    @property
    def said(self) -> str:
        """Say it in words."""
        layout = f"{self.prefill_workers} prefill : {self.workers} decode" if self.prefill_workers else "aggregated"
        return (
            f"{layout} on {self.gpus} GPU{'s' * (self.gpus > 1)}, {self.tokens_s_gpu:.0f} tokens/s/GPU, "
            f"first token {self.first_token_s * 1e3:.0f} ms, then {self.between_tokens_s * 1e3:.1f} ms a token"
        )


def best(tables: Path, way: str, gpus: int | None, gpus_each: int | None) -> Candidate | None:
    """Return the best layout of a way, "agg" or "disagg", below a folder; None where none fits.

    `gpus` are all there are (None: as many as the rate takes), `gpus_each` those of a worker (None: any).

    Raises:
        OSError, csv.Error, KeyError, ValueError: a table cannot be read, or is not as known.
    """
    found = [row for file in sorted(tables.rglob(f"{way}/{TABLE}")) for row in _rows(file)]
    candidates = [_candidate(row, gpus) for row in found if _fits(row, gpus_each)]
    return min(candidates, key=lambda candidate: candidate.cost, default=None)


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def _fits(row: dict[str, str], gpus_each: int | None) -> bool:
    """Tell whether every worker of a layout has so many GPUs: the workers of one of our groups are alike."""
    if "(p)workers" in row:
        return {_gpus(row, "(p)"), _gpus(row, "(d)")} == {gpus_each} if gpus_each else True
    return gpus_each in (None, _whole(row, "num_total_gpus"))


def _gpus(row: dict[str, str], role: str) -> int:
    # Context parallelism is told of prefill only.
    return math.prod(_whole(row, f"{role}{way}") for way in ("tp", "pp", "dp", "cp") if row.get(f"{role}{way}"))


def _candidate(row: dict[str, str], gpus: int | None) -> Candidate:
    """Read a row; a row tells one replica, of which as many are run as were needed, or as the GPUs allow."""
    each = _whole(row, "num_total_gpus")
    replicas = _whole(row, "replicas_needed") if gpus is None else gpus // each
    if not replicas:
        raise ValueError(f"a layout takes {each} GPUs, where there are {gpus}")
    apart = "(p)workers" in row
    return Candidate(
        prefill_workers=replicas * _whole(row, "(p)workers") if apart else 0,
        workers=replicas * (_whole(row, "(d)workers") if apart else 1),
        gpus=replicas * each if gpus is None else gpus,
        tokens_s_gpu=_number(row, "tokens/s/gpu_cluster"),
        first_token_s=_number(row, "ttft") / 1e3,
        between_tokens_s=_number(row, "tpot") / 1e3,
    )


def _number(row: dict[str, str], name: str) -> float:
    value = float(row[name] or "nan")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} is {row[name] or 'empty'}")
    return value


def _whole(row: dict[str, str], name: str) -> int:
    value = _number(row, name)
    if value != int(value):
        raise ValueError(f"{name} is {row[name]}")
    return int(value)
