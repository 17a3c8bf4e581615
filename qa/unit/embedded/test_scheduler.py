"""Continuous batching under pressure: everybody ends, in order, and no block is lost."""

import hypothesis.strategies as st
from hypothesis import given, settings

from tritium.backends.embedded.cache import BlockPool
from tritium.backends.embedded.sampling import Sampler, Sampling
from tritium.backends.embedded.scheduler import Scheduler, Sequence

SIZE = 4


def sequence(number: int, prompt: int, *, priority: int = 0, first: int = 0) -> Sequence:
    tokens = [first or number] * prompt
    sampling = Sampling(temperature=0.0)
    return Sequence(number, tokens, prompt, sampling, Sampler(sampling, tokens, frozenset(), 0), priority=priority)


def scheduler(blocks: int, *, sequences: int = 8, tokens: int = 16) -> Scheduler:
    return Scheduler(BlockPool(blocks, SIZE), max_sequences=sequences, step_tokens=tokens)


def step(under_test: Scheduler) -> list[tuple[int, int]]:
    """Run one step; every sequence whose prompt is done gets a token. Return (id, tokens computed)."""
    under_test.admit()
    works = under_test.plan()
    for work in works:
        completes = work.completes
        under_test.advance(work)
        if completes:
            work.sequence.tokens.append(100 + work.sequence.id)
    return [(work.sequence.id, work.count) for work in works]


def test_decodes_go_before_prompts_and_prompts_are_cut() -> None:
    """A long prompt takes what the budget leaves beside those that decode, chunk by chunk."""
    under_test = scheduler(64, sequences=3, tokens=8)
    under_test.add(sequence(1, 3))
    assert step(under_test) == [(1, 3)]
    under_test.add(sequence(2, 17))
    assert step(under_test) == [(1, 1), (2, 7)]
    assert step(under_test) == [(1, 1), (2, 7)]
    assert step(under_test) == [(1, 1), (2, 3)]
    assert step(under_test) == [(1, 1), (2, 1)]


def test_first_come_first_served_unless_priority_says_otherwise() -> None:
    """Arrival decides, and a lower priority number comes before it."""
    under_test = scheduler(64, sequences=1)
    for number, priority in ((1, 0), (2, 0), (3, -1)):
        under_test.add(sequence(number, 2, priority=priority))
    order = []
    while under_test.waiting:
        (admitted,) = under_test.admit()
        order.append(admitted.id)
        under_test.remove(admitted)
    assert order == [3, 1, 2]


def test_a_shared_prefix_is_leased_not_computed() -> None:
    """The second of two equal prompts computes its last block only, and says how much it found."""
    under_test = scheduler(64)
    under_test.add(sequence(1, 12, first=7))
    step(under_test)
    second = sequence(2, 12, first=7)
    under_test.add(second)
    assert (2, 4) in step(under_test)
    assert second.cached_tokens == 8
    assert second.blocks[:2] == under_test.running[0].blocks[:2]


def test_the_last_to_come_makes_room() -> None:
    """When blocks run out the latest arrival is put back, keeps its tokens, and is computed again later."""
    under_test = scheduler(5)
    first, second = sequence(1, 7), sequence(2, 7)
    under_test.add(first)
    under_test.add(second)
    while under_test.preemptions == 0:
        step(under_test)
    assert under_test.running == [first]
    assert under_test.waiting == [second]
    assert second.tokens[:7] == [2] * 7
    assert len(second.tokens) > 7
    under_test.remove(first)
    kept = len(second.tokens)
    while under_test.waiting or len(second.tokens) == kept:
        assert [number for number, _ in step(under_test)] == [2]
    assert second.computed == kept


def test_nobody_is_admitted_to_be_thrown_out() -> None:
    """A newcomer waits while its blocks are those that the running ones need next."""
    under_test = scheduler(3)
    under_test.add(sequence(1, 8))
    step(under_test)
    under_test.add(sequence(2, 3))
    for _ in range(4):
        assert step(under_test) == [(1, 1)]
    assert under_test.preemptions == 0


def test_one_on_hold_takes_no_part() -> None:
    """A sequence whose blocks are being filled from elsewhere is neither planned nor preempted."""
    under_test = scheduler(64)
    held = sequence(1, 6)
    under_test.add(held)
    under_test.admit()
    held.on_hold = True
    under_test.add(sequence(2, 5))
    assert step(under_test) == [(2, 5)]
    held.on_hold = False
    assert (1, 6) in step(under_test)


@settings(deadline=None, max_examples=150)
@given(
    prompts=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 15)), min_size=1, max_size=12),
    blocks=st.integers(9, 20),
    tokens=st.integers(1, 24),
    sequences=st.integers(1, 6),
)
def test_everybody_ends(prompts: list[tuple[int, int]], blocks: int, tokens: int, sequences: int) -> None:
    """Whatever the sizes, each sequence gets all its tokens in bounded steps and every block comes back."""
    under_test = scheduler(blocks, sequences=sequences, tokens=tokens)
    wanted = {}
    for number, (prompt, output) in enumerate(prompts, 1):
        wanted[number] = prompt + output
        under_test.add(sequence(number, prompt))
    ended = []
    for _ in range(3000):
        planned = step(under_test)
        assert planned, "nothing runs although something waits"
        assert sum(count for _, count in planned) <= max(tokens, sequences)
        for each in [each for each in under_test.running if len(each.tokens) == wanted[each.id]]:
            under_test.remove(each)
            ended.append(each.id)
        if not under_test.running and not under_test.waiting:
            break
    assert sorted(ended) == sorted(wanted)
    assert under_test.pool.used == 0
