"""Headers that become parameters."""

import re

import pytest

from tritium.compat.v2.forwarding import forward
from tritium.compat.v2.refusal import Refusal


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (".*", {"user-agent": "x", "my-header": "a b", "other": "\ufffd"}),
        ("my", {"my-header": "a b"}),
        ("^(other|nothing)$", {"other": "\ufffd"}),
        ("MY", {}),
        ("(?i)MY", {"my-header": "a b"}),
    ],
)
def test_headers_are_chosen_by_a_search_in_their_name(pattern, expected):
    """The pattern may match anywhere; case counts, unless the pattern says otherwise."""
    parameters = {"given": 1}
    forward(re.compile(pattern), [(b"user-agent", b"x"), (b"my-header", b"a b"), (b"other", b"\xff")], parameters)
    assert parameters == {"given": 1, **expected}


@pytest.mark.parametrize("name", ["sequence_id", "priority", "timeout", "headers", "binary_data_output", "triton_x"])
def test_names_that_mean_something_are_refused(name):
    """Only where the pattern would forward them."""
    headers = [(name.encode(), b"1")]
    with pytest.raises(Refusal, match=f"Header '{name}' is reserved for Triton usage and cannot be forwarded."):
        forward(re.compile(".*"), headers, {})
    forward(re.compile("^my-"), headers, {})
