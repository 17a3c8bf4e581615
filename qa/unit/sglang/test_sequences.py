"""Sampling fields and chunks, translated."""

import json
from pathlib import Path
from typing import Any

import pytest

from tritium.backends.engine import FinishReason, Generate, TokenLogprob
from tritium.backends.sglang.sequences import REFUSED, RENAMED, ChunkReader, generate_arguments
from tritium.core.errors import InvalidArgument, ModelFailed, Unsupported

RECORDED = json.loads(Path("qa/fakes/sglang.json").read_text())["names"]


def arguments_of(lora: str = "", salt: str = "", **sampling: Any) -> dict[str, Any]:
    return generate_arguments(Generate(1, [5, 6], sampling, lora=lora, cache_salt=salt), 100)


def test_every_name_is_sglang_s() -> None:
    """What is sent exists in the SGLang that was read."""
    assert set(RENAMED.values()) <= set(RECORDED["SamplingParams"])
    everything = arguments_of(
        "a", "s", top_k=3, logit_bias={5: 1}, logprobs=2, prompt_logprobs=1, structured_outputs={"regex": "a+"}
    )
    assert set(everything) <= set(RECORDED["Engine.async_generate"])
    assert set(everything["sampling_params"]) <= set(RECORDED["SamplingParams"])


def test_fields_are_renamed() -> None:
    """Values pass as they are; without max_tokens an answer has what the context leaves."""
    parameters = arguments_of(max_tokens=7, min_tokens=2, seed=3, temperature=0.5, top_k=0)["sampling_params"]
    assert parameters == {"max_new_tokens": 7, "min_new_tokens": 2, "sampling_seed": 3, "temperature": 0.5}
    assert arguments_of(max_tokens=None)["sampling_params"] == {"max_new_tokens": 98}
    assert arguments_of(logit_bias={5: 1})["sampling_params"]["logit_bias"] == {"5": 1.0}
    assert arguments_of("pirate", "salt")["lora_path"] == "pirate"
    assert arguments_of("pirate", "salt")["cache_salt"] == "salt"


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ({"json": {"type": "string"}}, {"json_schema": '{"type":"string"}'}),
        ({"json_object": True}, {"json_schema": '{"type": "object"}'}),
        ({"grammar": "root ::= x"}, {"ebnf": "root ::= x"}),
        ({"regex": "a+", "json": None}, {"regex": "a+"}),
        ({"choice": ["a.b", "c"]}, {"regex": r"(a\.b)|(c)"}),
        ({"structural_tag": {"a": 1}}, {"structural_tag": '{"a":1}'}),
    ],
)
def test_structured_outputs(wanted: dict[str, Any], given: dict[str, Any]) -> None:
    """Every kind of constraint has its place."""
    parameters = arguments_of(max_tokens=7, structured_outputs=wanted)["sampling_params"]
    assert parameters == {"max_new_tokens": 7} | given


@pytest.mark.parametrize(
    ("sampling", "error", "message"),
    [
        ({"temprature": 1}, InvalidArgument, "'temprature'; did you mean temperature?"),
        ({"bad_words": ["x"]}, Unsupported, "no sampling parameter 'bad_words'"),
        ({"logprobs": -1}, Unsupported, "of all tokens"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, InvalidArgument, "takes one of"),
        ({"structured_outputs": {"jsn": {}}}, InvalidArgument, "did you mean json"),
        ({"structured_outputs": {"choice": "abc"}}, InvalidArgument, "a list of strings"),
        ({"structured_outputs": "a"}, InvalidArgument, "no object"),
        ({"structured_outputs": {"regex": "a", "disable_fallback": True}}, InvalidArgument, "disable_fallback"),
    ],
)
def test_what_cannot_be_is_refused(sampling: dict[str, Any], error: type[Exception], message: str) -> None:
    """By name, with what to do."""
    with pytest.raises(error, match=message):
        arguments_of(**sampling)


def test_refused_fields_may_be_empty() -> None:
    """A field that SGLang has nothing for does no harm where it asks for nothing."""
    nothing: dict[str, Any] = dict.fromkeys(REFUSED)
    assert "sampling_params" in arguments_of(**nothing)


def chunk(tokens: list[int], reason: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    return {"output_ids": tokens, "meta_info": {"finish_reason": reason, "cached_tokens": 4} | meta}


def test_chunks_become_deltas() -> None:
    """New tokens each, the cache's share first, the stop token only where the client named it."""
    reader = ChunkReader(Generate(1, [5], {"stop_token_ids": [9]}))
    first = reader.read(chunk([7]))
    assert (first.token_ids, first.cached_tokens, first.finish) == ([7], 4, None)
    last = reader.read(chunk([8, 9], {"type": "stop", "matched": 9}))
    assert (last.token_ids, last.cached_tokens, last.finish, last.stop_token) == ([8, 9], None, FinishReason.STOP, 9)
    ended = ChunkReader(Generate(1, [5], {})).read(chunk([2], {"type": "stop", "matched": 2}))
    assert (ended.finish, ended.stop_token) == (FinishReason.STOP, None)
    assert reader.read(chunk([], {"type": "length", "length": 3})).finish == FinishReason.LENGTH


def test_log_probabilities() -> None:
    """The token first, its rank where it is among the likeliest, and as many others as were asked for."""
    reader = ChunkReader(Generate(1, [5, 6], {"logprobs": 1, "prompt_logprobs": 2}))
    delta = reader.read(
        chunk(
            [7],
            output_token_logprobs=[(-1.0, 7, None)],
            output_top_logprobs=[[(-0.5, 3, None), (-1.0, 7, None)]],
            input_token_logprobs=[(None, 5, None), (-2.0, 6, None)],
            input_top_logprobs=[None, [(-0.5, 3, None), (-1.0, 4, None)]],
        )
    )
    assert delta.logprobs == [[TokenLogprob(7, -1.0, 2), TokenLogprob(3, -0.5, 1)]]
    prompt = [TokenLogprob(6, -2.0, 0), TokenLogprob(3, -0.5, 1), TokenLogprob(4, -1.0, 2)]
    assert delta.prompt_logprobs == [None, prompt]


def test_aborts_are_errors() -> None:
    """What SGLang refuses is the request's fault, all else it gives up is its own."""
    reader = ChunkReader(Generate(1, [5], {}))
    with pytest.raises(InvalidArgument, match="SGLang: bad grammar"):
        reader.read(chunk([], {"type": "abort", "message": "bad grammar", "status_code": 400}))
    with pytest.raises(ModelFailed, match="SGLang: KV transfer failed"):
        reader.read(chunk([], {"type": "abort", "message": "KV transfer failed", "status_code": 500}))
