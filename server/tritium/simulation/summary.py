"""The figures of one run: times, throughput, goodput, what the caches held, and how the work was spread."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from tritium.backends.engine import Role
from tritium.simulation.fleet import SimulatedFleet
from tritium.simulation.record import Records


@dataclass(frozen=True, slots=True)
class Goal:
    """What makes a request a good one: its first token, and the gaps between its tokens on the average, in time."""

    ttft_s: float = 2.0
    itl_s: float = 0.05


@dataclass(frozen=True, slots=True)
class Summary:
    """One policy's figures; seconds and tokens of the simulated fleet, `took_s` of this machine."""

    policy: str
    requests: int
    refused: int
    simulated_s: float
    ttft_mean_s: float
    ttft_p50_s: float
    ttft_p99_s: float
    itl_p50_s: float
    itl_p99_s: float
    tokens_s: float
    """Output tokens a second."""
    goodput_s: float
    """Good requests a second."""
    good_share: float
    """Good requests, of all that came."""
    hit_ratio: float
    """Prompt tokens that were found cached, of all."""
    spread: float
    """Requests of the busiest worker over those of the idlest, among those that generate."""
    busy_share: float
    """Of the workers' time, what they spent in steps."""
    preemptions: int
    took_s: float


def summarize(policy: str, fleet: SimulatedFleet, records: Records, goal: Goal, took_s: float) -> Summary:
    """Return the figures of a run that is over."""
    ttfts, itls = sorted(first_tokens_s(records)), sorted(gaps_s(records))
    good = _good(records, goal)
    simulated_s = max(records.ended_s, default=0.0) - min(records.arrived_s, default=0.0)
    span_s = simulated_s or 1.0
    prompts = sum(records.prompt_tokens)
    generating = [name for name, role in fleet.roles.items() if role is not Role.PREFILL]
    counts = [records.by_worker[name] for name in generating]
    return Summary(
        policy=policy,
        requests=len(records),
        refused=len(records.refusals),
        simulated_s=simulated_s,
        ttft_mean_s=sum(ttfts) / len(ttfts) if ttfts else 0.0,
        ttft_p50_s=quantile(ttfts, 0.5),
        ttft_p99_s=quantile(ttfts, 0.99),
        itl_p50_s=quantile(itls, 0.5),
        itl_p99_s=quantile(itls, 0.99),
        tokens_s=sum(records.output_tokens) / span_s,
        goodput_s=good / span_s,
        good_share=good / max(1, len(records) + len(records.refusals)),
        hit_ratio=sum(records.cached_tokens) / prompts if prompts else 0.0,
        spread=max(counts) / max(1, min(counts)),
        busy_share=sum(worker.busy_s for worker in fleet.workers.values()) / len(fleet.workers) / span_s,
        preemptions=sum(worker.scheduler.preemptions for worker in fleet.workers.values()),
        took_s=took_s,
    )


def first_tokens_s(records: Records) -> "array[float]":
    """Return how long each request waited for its first token."""
    return array("d", (first - came for came, first in zip(records.arrived_s, records.first_s, strict=True)))


def gaps_s(records: Records) -> "array[float]":
    """Return the mean time between the tokens of each request that has more than one."""
    columns = zip(records.first_s, records.ended_s, records.output_tokens, strict=True)
    return array("d", ((end - first) / (tokens - 1) for first, end, tokens in columns if tokens > 1))


def quantile(ordered: Sequence[float], part: float) -> float:
    """Return the least of `ordered` that so large a part of it does not exceed; 0 of nothing."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else 0.0


def _good(records: Records, goal: Goal) -> int:
    columns = zip(records.arrived_s, records.first_s, records.ended_s, records.output_tokens, strict=True)
    return sum(
        first - came <= goal.ttft_s and end - first <= goal.itl_s * (tokens - 1) + 1e-9
        for came, first, end, tokens in columns
    )
