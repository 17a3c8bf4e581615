"""Patterns of headers that are forwarded."""

import pytest

from tritium.compat.header_pattern import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "header", "found"),
    [
        ("MY_.*", "my_header", True),
        ("my", "X-MY-header", True),
        ("(?-i)MY_.*", "my_header", False),
        ("(?-i)MY_.*", "MY_header", True),
        ("^my", "x-my", False),
    ],
)
def test_case_matters_where_the_pattern_says_so(pattern, header, found):
    """A pattern is found anywhere in a name, as RE2's partial match does."""
    assert bool(compile_pattern(pattern).search(header)) is found


def test_no_pattern_forwards_nothing():
    """The empty text is no pattern that fits everything."""
    assert compile_pattern("") is None
