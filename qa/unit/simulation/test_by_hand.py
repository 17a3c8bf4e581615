"""Scenarios whose every time can be reckoned: a step takes 10 ms, and 1 ms for each of its tokens."""

import pytest

from tritium.simulation.request import Request

PROMPT = [1, 2]
"""Two blocks of four tokens."""


def test_steps_tokens_and_cached_blocks(serve):
    """A prompt of 8 tokens takes 18 ms and a token 11; who comes in a step waits for its end, and finds a block."""
    outcome = serve([Request(0, 0.0, 8, 3, PROMPT), Request(1, 0.020, 8, 2, PROMPT)])
    records = outcome.records
    # 0: 18, then 11 to 29, then 15 to 44 beside four tokens of the second prompt, of which one block was held.
    assert list(records.first_s) == pytest.approx([0.018, 0.044])
    assert list(records.ended_s) == pytest.approx([0.044, 0.055])
    assert list(records.cached_tokens) == [0, 4]
    assert outcome.summary.hit_ratio == 4 / 16
    assert outcome.summary.ttft_p99_s == pytest.approx(0.024)
    assert outcome.summary.busy_share == pytest.approx(1.0)


def test_a_prompt_is_cut_to_the_step(serve):
    """100 tokens at 64 a step are two steps: 74 ms and 46 ms."""
    records = serve([Request(0, 1.0, 100, 1, [])]).records
    assert list(records.first_s) == pytest.approx([1.120])
    assert list(records.ended_s) == list(records.first_s)


def test_kv_moves_from_prefill_to_decode(serve):
    """32 tokens: 42 ms of prefill, 32 MiB at a MiB a millisecond, and a step of one token; the rest is decoded."""
    outcome = serve([Request(0, 0.0, 32, 2, [])], fleet="prefill=1,decode=1")
    assert list(outcome.records.first_s) == pytest.approx([0.042 + 0.032 + 0.011])
    assert list(outcome.records.ended_s) == pytest.approx([0.096])


def test_a_mixed_fleet_has_workers_of_every_kind(serve):
    """Two prompts at once: one is computed elsewhere, the other by the aggregated worker that generates."""
    outcome = serve([Request(number, 0.0, 32, 2, []) for number in range(2)], fleet="prefill=1,decode=1,workers=1")
    assert sorted(outcome.records.by_worker) == ["decode_0", "worker_0"]
    assert sorted(outcome.records.first_s) == pytest.approx([0.042, 0.085])


def test_what_finds_no_room_waits_its_turn(serve):
    """With one request a worker the second begins when the first has ended, and the third finds the room full."""
    requests = [Request(number, 0.001 * number, 8, 2, []) for number in range(3)]
    records = serve(requests, fleet="workers=1,worker_requests=1,max_waiting=1").records
    assert list(records.ended_s) == pytest.approx([0.029, 0.058])
    assert list(records.refusals) == [2]


def test_who_waits_too_long_is_refused(serve):
    """A place in the waiting room is for so long; the worker is free only after that."""
    requests = [Request(number, 0.0, 8, 20, []) for number in range(2)]
    records = serve(requests, fleet="workers=1,worker_requests=1,wait_s=0.1").records
    assert (len(records), list(records.refusals)) == (1, [1])


def test_what_no_context_holds_is_refused(serve):
    """256 tokens fit into the blocks; 257 never will."""
    records = serve([Request(0, 0.0, 250, 6, []), Request(1, 0.0, 250, 7, [])]).records
    assert (list(records.numbers), list(records.refusals)) == ([0], [1])


def test_a_client_asks_on_when_it_has_its_answer(serve):
    """What follows comes its pause after the end, and finds the answer's blocks, too."""
    then = Request(1, 0.5, 16, 1, [1, 2, 3, 4])
    records = serve([Request(0, 0.0, 8, 5, [1, 2, 3], then=then)]).records
    # 18 and four tokens at 11: the last one is given, not computed, so that 12 tokens have KV.
    assert list(records.arrived_s) == pytest.approx([0.0, 0.562])
    assert list(records.cached_tokens) == [0, 12]


def test_the_router_sends_a_prompt_where_it_is_held(serve):
    """Of two idle workers the one that has the prefix; in turn, the other."""
    requests = [Request(number, float(number), 32, 1, list(range(8))) for number in range(2)]
    assert list(serve(requests, fleet="workers=2").records.cached_tokens) == [0, 28]
    assert list(serve(requests, fleet="workers=2", policy="round_robin").records.cached_tokens) == [0, 0]
