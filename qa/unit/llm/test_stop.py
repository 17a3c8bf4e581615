import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.llm.stop import StopMatcher

LETTERS = "ab\n🙂"


def _reference(text, stops):
    """Read one character at a time: the first stop string to be complete ends the text, the longest one if several."""
    for end in range(1, len(text) + 1):
        complete = [s for s in stops if text[:end].endswith(s)]
        if complete:
            stop = max(complete, key=len)
            return text[: end - len(stop)], stop
    return text, None


@given(
    text=st.text(LETTERS, max_size=30),
    stops=st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 30), max_size=8),
)
def test_every_split_stops_at_the_same_place(text, stops, cuts):
    """However the text is cut, it ends before the same stop string, and nothing of it is sent early."""
    expected, stop = _reference(text, stops)
    matcher = StopMatcher(stops)
    edges = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    sent = ""
    for a, b in itertools.pairwise(edges):
        sent += matcher.push(text[a:b])
        assert expected.startswith(sent)
    assert (sent + matcher.flush(), matcher.matched) == (expected, stop)


@given(text=st.text(LETTERS, max_size=20), stops=st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1))
def test_only_what_could_become_a_stop_string_waits(text, stops):
    """After every character, what waits is the beginning of a stop string, and the longest such."""
    matcher = StopMatcher(stops)
    sent = ""
    for at, character in enumerate(text, 1):
        sent += matcher.push(character)
        if matcher.matched:
            return
        waits = text[len(sent) : at]
        beginnings = [text[i:at] for i in range(at) if any(s.startswith(text[i:at]) for s in stops)]
        assert waits == max(beginnings, key=len, default="")


def test_stop_string_may_be_kept():
    """With include the text ends after the stop string."""
    matcher = StopMatcher(["END"], include=True)
    assert matcher.push("the EN") + matcher.push("D and more") == "the END"


@pytest.mark.parametrize("more", ["", "x"])
def test_nothing_follows_a_match(more):
    """After a match nothing more is sent."""
    matcher = StopMatcher(["b"])
    assert matcher.push("abc") == "a"
    assert matcher.push(more) == ""
    assert matcher.flush() == ""
