"""One comparison: a fleet, its engines and a workload, served once by every policy."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritium.backends.mocker.settings import Settings, read_settings
from tritium.cluster.spec import FleetSpec
from tritium.core.errors import InvalidArgument
from tritium.simulation.fleet import SimulatedFleet
from tritium.simulation.policy import router_of
from tritium.simulation.record import Records
from tritium.simulation.request import Workload
from tritium.simulation.summary import Goal, Summary, summarize


@dataclass(frozen=True, slots=True)
class Scenario:
    """What every policy is given alike.

    `engine` are the arguments of the mocker, `block_size` left out: that is the workload's. `streams`: so many requests
    at once, whatever their times; 0: by their times.
    """

    fleet: FleetSpec
    workload: Workload
    engine: Mapping[str, Any]
    goal: Goal
    streams: int = 0
    seed: int = 0

    def settings(self) -> Settings:
        """Return what the engines run with.

        Raises:
            InvalidArgument: an argument that the mocker does not take, or engines whose steps take no time.
        """
        settings = read_settings({**self.engine, "block_size": self.workload.block_tokens}, Path())
        if settings.timing is None:
            raise InvalidArgument(
                "steps of the simulated engines take no time",
                hint='give them a "gpu" or a "timing", as docs/engines.md says',
            )
        return settings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy made of a scenario: in figures, and request by request."""

    summary: Summary
    records: Records


def play(scenario: Scenario, policy: str) -> Outcome:
    """Serve a scenario by one policy.

    Raises:
        InvalidArgument: an unknown policy, or arguments that the engines do not take.
    """
    settings = scenario.settings()
    spec = scenario.fleet
    routers = router_of(
        policy, settings.block_tokens, seed=scenario.seed, most_prefill_tokens=spec.worker_prefill_tokens
    )
    began_s = time.perf_counter()
    fleet = SimulatedFleet(spec, settings, routers, scenario.workload.requests(), streams=scenario.streams)
    records = fleet.run()
    took_s = time.perf_counter() - began_s
    return Outcome(summarize(policy, fleet, records, scenario.goal, took_s), records)


def ideal_hits(workload: Workload) -> float:
    """Return the share of prompt tokens that one cache without bounds would hold, requests one after the other."""
    seen: set[int] = set()
    hits = tokens = 0
    for first in workload.requests():
        request = first
        while True:
            # At least one token is computed, for it gives the next.
            for name in request.blocks[: (request.prompt_tokens - 1) // workload.block_tokens]:
                if name not in seen:
                    break
                hits += workload.block_tokens
            tokens += request.prompt_tokens
            seen.update(request.blocks)
            if request.then is None:
                break
            request = request.then
    return hits / tokens if tokens else 0.0
