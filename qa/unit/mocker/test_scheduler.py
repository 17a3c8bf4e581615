"""Which sequences a simulated step holds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tritium.backends.mocker.blocks import BlockManager
from tritium.backends.mocker.content import TokenContent
from tritium.backends.mocker.journal import EventJournal
from tritium.backends.mocker.scheduler import Limits, Plan, Scheduler, Sequence


def scheduler(blocks: int = 100, size: int = 4, *, watermark: int = 0, **limits: int | bool) -> Scheduler:
    given_limits = {"sequences": 8, "step_tokens": 16} | limits
    return Scheduler(BlockManager(blocks, size, EventJournal(size)), Limits(**given_limits, watermark_blocks=watermark))  # type: ignore[arg-type]  # by name


def sequence(number: int, tokens: int, priority: int = 0, *, remote: bool = False) -> Sequence:
    return from_tokens(number, [number * 1000 + at for at in range(tokens)], priority, remote=remote)


def from_tokens(number: int, tokens: list[int], priority: int = 0, *, remote: bool = False) -> Sequence:
    return Sequence(number, TokenContent(tokens), len(tokens), len(tokens), priority, remote=remote)


def run(machine: Scheduler, plan: Plan) -> list[int]:
    """Book a plan's work, and return the ids of those that got a token."""
    machine.decoded(plan.decodes)
    moved = plan.decodes + [chunk.sequence for chunk in plan.chunks if machine.computed(chunk)]
    for each in moved:
        assert isinstance(each.content, TokenContent)
        each.content.tokens.append(7)
        each.length += 1
    return [each.id for each in moved]


def test_prompts_are_cut_to_the_budget_and_decodes_come_first() -> None:
    """A long prompt takes several steps, beside which the others go on; a step holds no more than its budget."""
    machine = scheduler()
    machine.add(sequence(1, 4))
    assert run(machine, machine.plan()) == [1]
    machine.add(sequence(2, 40))
    counts = []
    for _ in range(3):
        plan = machine.plan()
        counts.append((len(plan.decodes), [chunk.tokens for chunk in plan.chunks]))
        run(machine, plan)
    assert counts == [(1, [15]), (1, [15]), (1, [10])]
    assert len(machine.plan().decodes) == 2


def test_without_chunks_a_prompt_waits_for_a_step_of_its_own() -> None:
    """chunked=False: a prompt is computed whole, alone if it is longer than a step."""
    machine = scheduler(chunked=False)
    machine.add(sequence(1, 10))
    machine.add(sequence(2, 40))
    assert [[chunk.tokens for chunk in _step(machine).chunks] for _ in range(2)] == [[10], [40]]


def _step(machine: Scheduler) -> Plan:
    plan = machine.plan()
    run(machine, plan)
    return plan


def test_priority_comes_before_arrival() -> None:
    """Of those that wait the lower number goes first, and the higher number is preempted first."""
    machine = scheduler(blocks=4, sequences=2)
    for number, priority in ((1, 5), (2, 9), (3, 0)):
        machine.add(sequence(number, 7, priority))
    assert run(machine, machine.plan()) == [3, 1]
    for _ in range(2):
        run(machine, machine.plan())
    assert [each.id for each in machine.decoding] == [3]
    assert [each.id for each in machine.waiting] == [1, 2]
    assert machine.preemptions == 1


def test_a_preempted_sequence_finds_what_was_not_evicted() -> None:
    """What it had computed is kept as long as nobody needs the room; its count of cached prompt tokens stays."""
    machine = scheduler(blocks=6, sequences=2)
    machine.add(sequence(1, 8))
    machine.add(sequence(2, 12))
    run(machine, machine.plan())
    while not machine.preemptions:
        run(machine, machine.plan())
    (preempted,) = machine.waiting
    assert preempted.id == 2
    machine.remove(machine.decoding[0])
    (chunk,) = machine.plan().chunks
    assert chunk.start >= 8
    assert preempted.cached_tokens == 0


def test_the_watermark_keeps_room_for_those_that_run() -> None:
    """A newcomer may not take the last blocks, unless nobody runs."""
    machine = scheduler(blocks=4, watermark=2)
    machine.add(sequence(1, 8))
    machine.add(sequence(2, 4))
    assert [each.sequence.id for each in machine.plan().admitted] == [1]
    machine.remove(machine.prefilling[0])
    assert [each.sequence.id for each in machine.plan().admitted] == [2]


def test_a_prompt_from_elsewhere_is_not_computed() -> None:
    """A remote sequence holds its blocks in no step until it arrived, and then computes one token."""
    machine = scheduler()
    machine.add(sequence(1, 8, remote=True))
    assert not machine.plan()
    assert (machine.running, machine.blocks.used) == (1, 2)
    (remote,) = machine.arriving
    machine.arrived(remote)
    (chunk,) = machine.plan().chunks
    assert (chunk.start, chunk.tokens, remote.cached_tokens) == (7, 1, 7)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2)), min_size=1, max_size=8),
    st.integers(10, 14),
    st.integers(4, 24),
)
def test_every_sequence_ends(sequences: list[tuple[int, int, int]], blocks: int, step_tokens: int) -> None:
    """Whatever is preempted, each sequence gets all its tokens in the end, budgets hold, and all blocks are free."""
    machine = scheduler(blocks=blocks, step_tokens=step_tokens, sequences=4)
    left = {}
    for number, (prompt, output, priority) in enumerate(sequences):
        # Some share their prefixes: three kinds of tokens for all.
        machine.add(from_tokens(number, [number % 3 * 1000 + at for at in range(prompt)], priority))
        left[number] = output
    for _ in range(2000):
        plan = machine.plan()
        assert len(plan.decodes) + sum(chunk.tokens for chunk in plan.chunks) <= step_tokens
        moved = {each.id: each for each in plan.decodes} | {chunk.sequence.id: chunk.sequence for chunk in plan.chunks}
        for number in run(machine, plan):
            left[number] -= 1
            if not left[number]:
                machine.remove(moved[number])
                del left[number]
        if not left:
            break
    assert not left
    assert (machine.running, machine.blocks.used) == (0, 0)
