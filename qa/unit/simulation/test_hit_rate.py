"""What routing is for: prompts find their cached beginning, and no worker is left with all of them."""

import random
import statistics

import pytest

from tritium.cluster.spec import parse_fleet
from tritium.simulation.request import Request, Workload
from tritium.simulation.scenario import Scenario, ideal_hits, play
from tritium.simulation.summary import Goal

BLOCK = 64
TIMING = {"base_ms": 5, "prompt_token_ms": 0.05, "sequence_ms": 0.1}


def shared_prefixes(seed, *, prefixes=20, each=50, prefix_blocks=23, prompt_tokens=1574):
    """Return requests of which `each` share one of `prefixes` beginnings, shuffled."""
    order = [prefix for prefix in range(prefixes) for _ in range(each)]
    random.Random(seed).shuffle(order)

    def requests():
        for number, prefix in enumerate(order):
            names = [prefix << 8 | place for place in range(prefix_blocks)]
            yield Request(number, 0.0, prompt_tokens, 16, names)

    return Workload("shared prefixes", BLOCK, requests)


def serve(workload, *, blocks=256, streams=16, policy="kv"):
    engine = {"num_gpu_blocks_override": blocks, "max_num_batched_tokens": 2048, "mocker": {"timing": TIMING}}
    return play(Scenario(parse_fleet("workers=4"), workload, engine, Goal(), streams=streams), policy).summary


@pytest.mark.parametrize("blocks", [256, 16_384])
def test_hit_rate(blocks):
    """20 prefixes of 23 blocks, 50 requests each, 4 workers: near the ideal 0.917 whether the cache is tight or not."""
    runs = [serve(shared_prefixes(seed), blocks=blocks) for seed in range(3)]
    assert ideal_hits(shared_prefixes(0)) == pytest.approx(0.917, abs=1e-3)
    assert statistics.mean(run.hit_ratio for run in runs) >= 0.905
    assert min(run.hit_ratio for run in runs) >= 0.9
    assert max(run.spread for run in runs) <= 1.3


def test_other_policies_are_the_measure():
    """Round robin on the same load has less than half the hits when the cache is tight, and Dynamo's cost fewer."""
    workload = shared_prefixes(0)
    assert serve(workload, policy="round_robin").hit_ratio < 0.5
    assert serve(workload, policy="dynamo").hit_ratio < serve(workload).hit_ratio - 0.03


def test_one_system_prompt_spreads():
    """A beginning that all requests share does not send them all to one worker."""
    workload = shared_prefixes(0, prefixes=1, each=400, prefix_blocks=10, prompt_tokens=1600)
    assert serve(workload, blocks=2048, streams=32).spread <= 1.1
