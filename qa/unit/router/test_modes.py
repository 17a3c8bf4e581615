"""Modes that draw lots, which routing scripts cannot spell out."""

import random

from tritium.router.choice import Mode
from tritium.router.router import Router


def test_random_is_random():
    """The mode `random` comes to every worker, and to the same ones again from the same seed."""

    def chosen():
        router = Router(4, Mode.RANDOM, rng=random.Random(1))
        for name in "abc":
            router.add(name, capacity_blocks=1, max_sequences=1)
        return [router.choose(router.prompt([1, 2])).worker for _ in range(30)]

    assert set(chosen()) == set("abc")
    assert chosen() == chosen()
