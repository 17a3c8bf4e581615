"""What the routing is for: prompts find their cached beginning, and no worker is left with all of them."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

from tritium.router.choice import Mode
from tritium.router.router import Router

_SPEC = importlib.util.spec_from_file_location("routing_simulation", Path(__file__).parent / "simulation.py")
simulation = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = simulation
_SPEC.loader.exec_module(simulation)


@pytest.mark.parametrize("capacity", [256, 16_384])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hit_rate(seed, capacity):
    """20 prefixes of 23 blocks, 50 requests each, 4 workers: near the ideal 0.917 whether the cache is tight or not."""
    run = simulation.Simulation(simulation.shared_prefixes(seed), capacity=capacity)
    assert run.hit_rate >= 0.905
    assert run.imbalance <= 1.3
    assert not any(load.active or load.prefill_blocks or load.decode_blocks for load in run.router.loads)


def test_round_robin_is_the_measure():
    """Round robin on the same load has less than half the hits when the cache is tight: the simulation can fail."""
    run = simulation.Simulation(simulation.shared_prefixes(0), mode=Mode.ROUND_ROBIN)
    assert run.hit_rate < 0.5


def test_one_system_prompt_spreads():
    """A beginning that all requests share does not send them all to one worker."""
    jobs = simulation.shared_prefixes(0, prefixes=1, each=400, prefix_tokens=640, own_tokens=960)
    run = simulation.Simulation(jobs, capacity=2048, in_flight=32)
    assert run.imbalance <= 1.1


def test_random_is_random():
    """The mode `random` comes to every worker, and to the same ones again from the same seed."""

    def chosen():
        router = Router(4, Mode.RANDOM, rng=random.Random(1))
        for name in "abc":
            router.add(name, capacity_blocks=1, max_sequences=1)
        return [router.choose(router.prompt([1, 2])).worker for _ in range(30)]

    assert set(chosen()) == set("abc")
    assert chosen() == chosen()
