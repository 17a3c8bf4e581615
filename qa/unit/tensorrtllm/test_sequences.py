"""Sampling fields, outputs and events, translated."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tritium.backends.engine import BlocksRemoved, BlocksStored, FinishReason, Generate, TokenLogprob
from tritium.backends.tensorrtllm.events import EventBook
from tritium.backends.tensorrtllm.sequences import (
    REFUSED,
    SAME,
    TRANSFER,
    ResultReader,
    biases,
    guided_fields,
    sampling_fields,
)
from tritium.core.errors import InvalidArgument, ModelFailed, Unsupported

RECORDED = json.loads(Path("qa/fakes/tensorrt_llm.json").read_text())["names"]


def fields_of(priority: int = 0, **sampling: Any) -> dict[str, Any]:
    return sampling_fields(Generate(1, [5, 6], sampling, priority=priority), 100)


def test_every_name_is_tensorrt_llm_s() -> None:
    """What is sent exists in the TensorRT-LLM that was read."""
    everything: dict[str, Any] = dict.fromkeys(SAME, 1)
    assert set(fields_of(**everything)) <= set(RECORDED["SamplingParams"])
    assert set(TRANSFER) <= set(RECORDED["DisaggregatedParams"])
    for kind in ("json", "regex", "grammar", "structural_tag"):
        guided = guided_fields(Generate(1, [5], {"structured_outputs": {kind: "x"}}))
        assert guided == {kind: "x"}
        assert set(guided) <= set(RECORDED["GuidedDecodingParams"])
    assert guided_fields(Generate(1, [5], {"structured_outputs": {"json_object": True}})) == {"json_object": True}
    assert guided_fields(Generate(1, [5], {})) == {}


def test_fields_are_translated() -> None:
    """Greedy is the likeliest token alone; zeros that mean nothing are left out; text stays ours."""
    ours = {"detokenize": False, "include_stop_str_in_output": True}
    assert fields_of(max_tokens=7, temperature=0.0) == ours | {"max_tokens": 7, "top_k": 1}
    assert fields_of(max_tokens=7, temperature=0.5, top_k=-1) == ours | {"max_tokens": 7, "temperature": 0.5}
    assert fields_of(bad_words=["x"], max_tokens=None) == ours | {"bad": ["x"], "max_tokens": 98}
    assert biases(Generate(1, [5], {"logit_bias": {"7": 1}}), 10) == {7: 1.0}


@pytest.mark.parametrize(
    ("sampling", "error", "message"),
    [
        ({"temprature": 1}, InvalidArgument, "'temprature'; did you mean temperature?"),
        ({"allowed_token_ids": [1]}, Unsupported, "no sampling parameter 'allowed_token_ids'"),
        ({"logprobs": -1}, Unsupported, "of all tokens"),
        ({"priority": 3}, Unsupported, "no priority"),
    ],
)
def test_what_cannot_be_is_refused(sampling: dict[str, Any], error: type[Exception], message: str) -> None:
    """By name, with what to do."""
    with pytest.raises(error, match=message):
        fields_of(**sampling)


def test_more_that_cannot_be_is_refused() -> None:
    """A bias beyond the vocabulary; but a field that asks for nothing does no harm."""
    with pytest.raises(InvalidArgument, match="token 10 is outside the vocabulary of 10"):
        biases(Generate(1, [5], {"logit_bias": {"10": 1}}), 10)
    nothing: dict[str, Any] = dict.fromkeys(REFUSED)
    assert fields_of(**nothing)["max_tokens"] == 98


def output(tokens: list[int], reason: str | None = None, **more: Any) -> Any:
    completion = SimpleNamespace(
        token_ids_diff=tokens, finish_reason=reason, stop_reason=None, disaggregated_params=None
    )
    vars(completion).update(more)
    return SimpleNamespace(outputs=[completion], cached_tokens=4)


def test_outputs_become_deltas() -> None:
    """New tokens each, the cache's share first, the stop token only where the client named it."""
    reader = ResultReader(Generate(1, [5], {"stop_token_ids": [9]}))
    assert (first := reader.read(output([7]))).token_ids == [7]
    assert (first.cached_tokens, first.finish) == (4, None)
    last = reader.read(output([9], "stop", stop_reason=9))
    assert (last.cached_tokens, last.finish, last.stop_token) == (None, FinishReason.STOP, 9)
    assert reader.read(output([3], "length")).finish == FinishReason.LENGTH
    for reason in ("timeout", "cancelled"):
        with pytest.raises(ModelFailed, match=f"ended the request: {reason}"):
            reader.read(output([], reason))


def test_log_probabilities() -> None:
    """By token with ranks, or numbers alone; the prompt's first token has none."""
    entry = SimpleNamespace
    place = {7: entry(logprob=-1.0, rank=2), 3: entry(logprob=-0.5, rank=1)}
    reader = ResultReader(Generate(1, [5, 7], {"logprobs": 1, "prompt_logprobs": 1}))
    delta = reader.read(output([7], logprobs_diff=[place], prompt_logprobs=[place]))
    row = [TokenLogprob(7, -1.0, 2), TokenLogprob(3, -0.5, 1)]
    assert (delta.logprobs, delta.prompt_logprobs) == ([row], [None, row])
    assert reader.read(output([8], logprobs_diff=[-0.25])).logprobs == [[TokenLogprob(8, -0.25, 0)]]


def stored(number: int, parent: int | None, *blocks: tuple[int, list[int], int]) -> dict[str, Any]:
    listed = [
        {"block_hash": block, "tokens": [{"token_id": each} for each in tokens], "cache_level": level}
        for block, tokens, level in blocks
    ]
    return {"event_id": number, "data": {"type": "stored", "parent_hash": parent, "blocks": listed}}


def test_events_are_told_on() -> None:
    """Full blocks with their tokens, moves between levels, removals; a part of a block routes nobody."""
    book = EventBook(2)
    assert book.translate({"event_id": 0, "data": {"type": "created", "num_blocks_per_cache_level": [9, 9]}}) == []
    told = book.translate(stored(1, None, (-1, [1, 2], 0), (6, [3, 4], 0), (7, [5], 0)))
    assert told == [BlocksStored([(1 << 64) - 1, 6], None, [1, 2, 3, 4], 2)]
    level = {"type": "event_diff", "old_value": 0, "new_value": 1}
    moved = {"event_id": 2, "data": {"type": "updated", "block_hash": 6, "cache_level": level, "priority": None}}
    assert book.translate(moved) == [
        BlocksRemoved([6], "device"),
        BlocksStored([6], (1 << 64) - 1, [3, 4], 2, "host"),
    ]
    removed = {"event_id": 3, "data": {"type": "removed", "block_hashes": [6, 7]}}
    assert book.translate(removed) == [BlocksRemoved([6], "host")]


def test_after_lost_events_what_was_known_stays() -> None:
    """TensorRT-LLM repeats no events, and does not store anew what it still holds: losses are counted, no more."""
    book = EventBook(2)
    book.translate(stored(1, None, (6, [3, 4], 0)))
    assert book.translate(stored(5, 6, (8, [1, 2], 0))) == [BlocksStored([8], 6, [1, 2], 2)]
    assert book.lost == 3
    assert book.translate({"event_id": 6, "data": {"type": "removed", "block_hashes": [6]}}) == [BlocksRemoved([6])]


def test_media_and_salts_of_events() -> None:
    """Blocks with an image in them are told with it, also when they move; a prompt's salt comes along."""
    book = EventBook(2)
    event = stored(0, None, (6, [3, 4], 0), (7, [9, 9], 0), (8, [9, 9], 0))
    blocks = event["data"]["blocks"]
    blocks[0]["cache_salt"] = "acme"
    for block, offset in ((blocks[1], 0), (blocks[2], 2)):
        block["mm_keys"] = [{"type": "mm_key", "hash": "cat", "start_offset": offset}]
    assert book.translate(event) == [
        BlocksStored([6, 7, 8], None, [3, 4, 9, 9, 9, 9], 2, salt="acme", media={2: "cat+0", 4: "cat+2"})
    ]
    level = {"type": "event_diff", "old_value": 0, "new_value": 1}
    moved = book.translate({"event_id": 1, "data": {"type": "updated", "block_hash": 8, "cache_level": level}})
    assert moved[1] == BlocksStored([8], 7, [9, 9], 2, "host", media={0: "cat+2"})
