"""Dynamo's cost, reckoned by hand: scale * (prompt tokens computing and ours - overlap) + blocks under way."""

import random

from tritium.router.router import Prompt
from tritium.simulation.dynamo import DECODE, DynamoCost, DynamoRouter


def router(cost: DynamoCost, workers: int = 2) -> DynamoRouter:
    made = DynamoRouter(4, cost, random.Random(0))
    for number in range(workers):
        made.add(f"w{number}", capacity_blocks=100, max_sequences=100)
    return made


def test_overlap_against_load():
    """One more request on the holder weighs as much as its whole prefix: both cost 20 then, and lots are drawn."""
    made = router(DynamoCost())
    made.entered("w0", list(range(10)))
    prompt = Prompt(40, list(range(10)))
    route = made.choose(prompt)
    assert (route.worker, route.cost, route.overlap_blocks) == ("w0", 10.0, 10)
    lease = made.lease(route, prompt)
    # Another prompt of that prefix shares its blocks under way: ten of them, and nothing is computing.
    assert made.choose(prompt).cost == 10.0
    other = Prompt(40, [*range(5), *range(100, 105)])
    # w0: 10 to prefill less 5, and 15 blocks under way; w1: 10 and 10.
    assert made.choose(other).cost == 20.0
    assert {made.choose(other).worker for _ in range(20)} == {"w0", "w1"}
    made.prefilled(lease)
    made.release(lease)
    assert made.choose(other).cost == 15.0


def test_the_prefill_scale_holds_to_the_prefix():
    """At 4 the same prompt goes to the holder: 4 * 5 + 15 against 4 * 10 + 10."""
    made = router(DynamoCost(prefill_load_scale=4.0))
    made.entered("w0", list(range(10)))
    prompt = Prompt(40, list(range(10)))
    made.lease(made.choose(prompt), prompt)
    route = made.choose(Prompt(40, [*range(5), *range(100, 105)]))
    assert (route.worker, route.cost) == ("w0", 35.0)


def test_tokens_compute_until_the_first_token():
    """Uncached tokens weigh on their worker until then, blocks until the end, and then nothing does."""
    made = router(DynamoCost(), workers=1)
    prompt, other = Prompt(40, list(range(10))), Prompt(8, [50, 51])
    lease = made.lease(made.choose(prompt), prompt)
    assert made.choose(other).cost == 10 + 2 + 10 + 2
    made.prefilled(lease)
    assert made.choose(other).cost == 2 + 10 + 2
    made.release(lease)
    assert made.choose(other).cost == 2 + 2


def test_decode_workers_count_blocks_alone():
    """Where prompts are computed elsewhere: no overlap, no sharing, no prefill."""
    made = router(DECODE, workers=1)
    made.entered("w0", list(range(10)))
    prompt = Prompt(42, list(range(10)))
    made.lease(made.choose(prompt), prompt)
    assert made.choose(prompt).cost == 22
