"""Events that were lost on the way, and the dumps that make up for them."""

from hypothesis import given
from hypothesis import strategies as st

from tritium.router.gaps import EventLine

EVENTS = st.lists(st.tuples(st.sampled_from(["store", "remove"]), st.integers(0, 9)), max_size=30)


def apply(state: set, event) -> None:
    kind, block = event
    (state.add if kind == "store" else state.discard)(block)


@given(EVENTS, st.data(), st.integers(1, 10), st.booleans())
def test_ends_with_the_truth(events, data, most_kept, late):
    """Whatever is lost, told twice, or answered by a dump too old: after a dump that helps, all is as it is there."""
    line, truth, known, states = EventLine(late=late, most_kept=most_kept), set(), set(), []
    for number, event in enumerate(events):
        apply(truth, event)
        states.append(set(truth))
        if data.draw(st.booleans(), "arrives"):
            for _ in range(data.draw(st.integers(1, 2), "times")):
                if line.hear(number, event).apply:
                    apply(known, event)
        if line.behind and data.draw(st.booleans(), "dump comes"):
            last = data.draw(st.integers(0, number), "of")
            if (after := line.heal(last)) is not None:
                known = set(states[last])
                for later in after:
                    apply(known, later)
                assert not line.behind
    line.hear(len(events), ("store", 0))
    apply(truth, ("store", 0))
    apply(known, ("store", 0))
    if line.behind:
        assert line.heal(len(events)) == []
        known = truth
    assert truth == known


def test_a_gap_asks_once():
    """A dump is asked for when numbers are missing, not with every event until it comes."""
    line = EventLine()
    assert [line.hear(number, "").ask for number in (0, 1, 4, 5, 6)] == [False, False, True, False, False]
    assert line.lost == 2
    assert line.heal(2) is None
    assert line.heal(4) == ["", ""]
    assert line.healed == 1


def test_what_is_kept_is_bounded():
    """Events beyond the bound are not kept; a dump from before them no longer helps."""
    line = EventLine(most_kept=2)
    for number in (1, 2, 3, 4):
        line.hear(number, number)
    assert line.heal(1) is None
    assert line.heal(2) == [3, 4]


def test_a_late_line_waits_for_its_dump():
    """One that begins in the midst is behind until it has a dump, and counts nothing as lost."""
    line = EventLine(1, late=True)
    assert line.behind
    assert [line.hear(number, number).ask for number in (7, 8)] == [False, False]
    assert (line.lost, line.heal(5), line.heal(6)) == (0, None, [7, 8])
    assert not line.behind
    fresh = EventLine(1, late=True)
    assert (fresh.heal(0), fresh.behind, fresh.hear(1, "").ask) == ([], False, False)


def test_what_was_told_last_and_lost_is_missed():
    """Where no event follows a lost one, the number that the worker says it is at tells of the loss."""
    line = EventLine(1)
    line.hear(1, "")
    assert [line.expect(number) for number in (1, 3, 3)] == [False, True, False]
    assert line.behind
    assert line.lost == 2
    assert line.hear(2, "").apply is False
    assert line.heal(3) == []
