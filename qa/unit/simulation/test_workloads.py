"""Requests from files and from seeds."""

import json
from collections import Counter

import pytest

from tritium.core.errors import InvalidArgument
from tritium.simulation.request import Request
from tritium.simulation.scenario import ideal_hits
from tritium.simulation.synthetic import make_workload
from tritium.simulation.traces import read_trace

ROWS = [
    {"timestamp": 0, "input_length": 1100, "output_length": 64, "hash_ids": [7, 8, 9]},
    {"timestamp": 2000, "input_length": 1024, "output_length": 1, "hash_ids": [7, 8]},
]


@pytest.fixture
def trace(tmp_path):
    """Write a trace of two requests, of which the second is how the first begins."""
    path = tmp_path / "two.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


def test_a_trace_is_read(trace):
    """Only full blocks have names; times are in milliseconds in the file."""
    first, second = read_trace(trace).requests()
    assert (first.prompt_tokens, first.output_tokens, first.blocks) == (1100, 64, [7, 8])
    assert (second.at_s, second.blocks) == (2.0, [7, 8])
    assert ideal_hits(read_trace(trace)) == 512 / 2124


def test_a_trace_in_other_sizes(trace):
    """Shorter, faster, cut at a number, or in smaller blocks of which equal ones stay equal."""
    first, second = read_trace(trace, shrink=32, pace=4).requests()
    assert (first.prompt_tokens, first.output_tokens, second.at_s) == (34, 2, 0.5)
    assert len(list(read_trace(trace, limit=1).requests())) == 1
    first, second = read_trace(trace, block_tokens=128).requests()
    assert len(first.blocks) == 8
    assert first.blocks == second.blocks
    assert len(set(first.blocks)) == 8


def test_copies_share_nothing(trace):
    """Each copy has its own blocks and numbers, and requests stay in order."""
    requests = list(read_trace(trace, copies=3).requests())
    assert len({request.number for request in requests}) == 6
    assert [request.at_s for request in requests] == sorted(request.at_s for request in requests)
    assert set(Counter(block for request in requests for block in request.blocks).values()) == {2}
    assert len({block for request in requests for block in request.blocks}) == 6


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"timestamp": 0}', r"bad.jsonl:2: .*input_length"),
        ("not json", r"bad.jsonl:2: "),
        ('{"timestamp": 0, "input_length": 5000, "output_length": 1, "hash_ids": [1]}', "bad.jsonl:2 has 1 hash_ids"),
        ('{"timestamp": -5, "input_length": 1, "output_length": 1, "hash_ids": [1]}', r"bad.jsonl:2: .*timestamp"),
        ('{"timestamp": 0, "input_length": -1, "output_length": 1, "hash_ids": []}', r"bad.jsonl:2: .*input_length"),
        ('{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [-1]}', r"bad.jsonl:2: .*hash_ids"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, words):
    """File, line and what is wrong with it."""
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line)
    with pytest.raises(InvalidArgument, match=words):
        read_trace(path)


def test_blocks_that_do_not_divide_are_refused(trace):
    """A trace knows nothing of what its blocks share in part."""
    with pytest.raises(InvalidArgument, match="do not divide"):
        read_trace(trace, block_tokens=100)


@pytest.mark.parametrize("kind", ["prefixes", "mix", "bursts", "tenants"])
def test_as_many_requests_as_the_rate_says(kind):
    """On the average; in the order of their times, with a name for every full block that is shared."""
    requests = list(make_workload(kind, rate=20, duration_s=120, block_tokens=64, seed=1).requests())
    assert 0.9 < len(requests) / 2400 < 1.1
    assert [request.at_s for request in requests] == sorted(request.at_s for request in requests)
    assert all(len(request.blocks) <= request.prompt_tokens // 64 for request in requests)


def test_bursts_come_in_bursts():
    """The first tenth of every minute has several times its share."""
    requests = list(make_workload("bursts", rate=20, duration_s=300, block_tokens=64).requests())
    assert 0.35 < sum(request.at_s % 60 < 6 for request in requests) / len(requests) < 0.6


def test_a_conversation_goes_on_from_its_own_words():
    """A turn's prompt begins with the prompt and the answer before it."""
    workload = make_workload("chat", rate=10, duration_s=120, block_tokens=64, seed=1)
    turns = 0
    for first in workload.requests():
        request: Request | None = first
        while request is not None:
            turns += 1
            after = request.then
            if after is not None:
                assert after.prompt_tokens > request.prompt_tokens + request.output_tokens
                full = (request.prompt_tokens + request.output_tokens) // 64
                assert after.blocks[:full] == request.blocks[:full]
                assert len(request.blocks) == full
                assert after.session == request.session
            request = after
    assert 0.8 < turns / 1200 < 1.2


@pytest.mark.parametrize(("kind", "rate"), [("other", 1.0), ("chat", 0.0)])
def test_what_is_no_workload_is_refused(kind, rate):
    """By name or by rate."""
    with pytest.raises(InvalidArgument):
        make_workload(kind, rate=rate, duration_s=1, block_tokens=64)
