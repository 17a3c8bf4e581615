"""What is learnt of workers' speed: slow ones are found, work of different size is not mistaken for it."""

import random

from tritium.router.router import Router
from tritium.router.speed import MOST, Pace


def test_a_slow_worker_is_found():
    """A worker that takes three times as long counts as clearly slower than the others, whatever it was given."""
    pace, rng = Pace(), random.Random(0)
    for _ in range(100):
        for worker, factor in (("a", 1), ("b", 1), ("c", 3)):
            blocks = rng.randrange(1, 60)
            pace.learn(worker, blocks, factor * (0.005 + 0.001 * blocks))
    assert pace.slowness("c") > 1.5
    assert pace.slowness("c") > 2 * pace.slowness("a")


def test_more_work_is_not_slowness():
    """A worker whose prompts are mostly cached is not the faster one, nor are those slow that compute."""
    pace, rng = Pace(), random.Random(0)
    for _ in range(100):
        for worker, most in (("a", 3), ("b", 60), ("c", 60)):
            blocks = rng.randrange(1, most)
            pace.learn(worker, blocks, rng.uniform(0.8, 1.2) * (0.005 + 0.001 * blocks))
    assert [pace.slowness(worker) for worker in "abc"] == [1.0, 1.0, 1.0]


def test_little_is_no_ground():
    """Few first tokens, or a worker alone, say nothing; and one pause does not write a worker off."""
    pace = Pace()
    for _ in range(7):
        pace.learn("a", 1, 0.01)
        pace.learn("b", 1, 1.0)
    assert pace.slowness("b") == 1.0
    alone = Pace()
    for _ in range(50):
        alone.learn("a", 1, 5.0)
    assert alone.slowness("a") == 1.0
    for _ in range(50):
        pace.learn("a", 1, 0.01)
        pace.learn("b", 1, 1000.0)
    assert pace.slowness("b") <= MOST


def test_routes_avoid_the_slow_one_until_it_is_fast_again():
    """Of two idle workers the slow one gets less and the route says why; when it has recovered it is found out."""
    router, now_s = Router(4), 1.0
    for name in "ab":
        router.add(name, capacity_blocks=1000, max_sequences=10)

    def went(times: int, b_takes_s: float) -> list[str]:
        nonlocal now_s
        names = []
        for _ in range(times):
            prompt = router.prompt([int(now_s * 1000)] * 40)
            lease = router.lease(router.choose(prompt), prompt, now_s=now_s)
            names.append(lease.load.name)
            now_s += b_takes_s if lease.load.name == "b" else 0.1
            router.prefilled(lease, now_s=now_s)
            router.release(lease)
        return names

    went(20, 0.4)
    prompt = router.prompt([1, 2, 3, 4])
    assert any("slowness" in router.choose(prompt, pinned=name).because for name in "ab")
    assert went(60, 0.4)[-20:].count("a") >= 18
    assert 40 <= went(4000, 0.1)[-100:].count("b") <= 60
    router.remove("b")
    router.add("b", capacity_blocks=1000, max_sequences=10)
    assert all(load.slowness == 1.0 for load in router.loads if load.name == "b")
