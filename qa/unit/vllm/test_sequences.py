"""Sampling fields and outputs, against the installed vLLM's own types."""

import importlib.util
from types import SimpleNamespace

import pytest

from tritium.backends.engine import Generate, Media, TokenLogprob
from tritium.backends.vllm.load import VllmLoad
from tritium.backends.vllm.sequences import delta_of, forbid_words, sampling_params
from tritium.core.errors import InvalidArgument

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test does"
)


@needs_vllm
@pytest.mark.vllm
@pytest.mark.filterwarnings("ignore")  # vLLM's and torch's own, at import
class TestSampling:
    def test_fields_pass_on(self):
        """Fields by vLLM's names reach it; tokens only, a delta a step, is ours to say."""
        sampling = {"max_tokens": 5, "temperature": 0.5, "seed": 7, "logit_bias": {"12": 1.5}, "min_p": 0.1}
        params = sampling_params(Generate(1, [1], sampling))
        assert (params.max_tokens, params.temperature, params.seed, params.min_p) == (5, 0.5, 7, 0.1)
        assert params.logit_bias == {12: 1.5}
        assert params.detokenize is False
        assert params.output_kind.name == "DELTA"
        assert params.extra_args is None

    def test_structured_outputs(self):
        """A constraint given as plain data becomes vLLM's own."""
        sampling = {"structured_outputs": {"choice": ["a", "b"]}}
        assert sampling_params(Generate(1, [1], sampling)).structured_outputs.choice == ["a", "b"]

    def test_transfers(self):
        """A prefill worker is asked to keep the blocks; what a decode worker was handed goes to vLLM unread."""
        asked = sampling_params(Generate(1, [1], {}, keep=True)).extra_args["kv_transfer_params"]
        assert asked["do_remote_decode"] is True
        handed = sampling_params(Generate(1, [1], {"extra_args": {"x": 1}}, {"k": "v"})).extra_args
        assert handed == {"x": 1, "kv_transfer_params": {"k": "v"}}

    def test_forbidden_words(self):
        """A word is forbidden with a space before it and without, also where these have different numbers of tokens."""
        words = Words({"model": [82, 282], " model": [292], "a": [5], " a": [5], "日": [7, 8], " 日": [9, 7, 8]})
        params = sampling_params(Generate(1, [1], {"bad_words": ["model", " a", "日"]}))
        forbid_words(params, words)
        params.update_from_tokenizer(words)  # what vLLM does when the request is added
        assert params.clone().bad_words_token_ids == [[82, 282], [292], [5], [7, 8], [9, 7, 8]]
        untouched = sampling_params(Generate(1, [1], {}))
        forbid_words(untouched, words)
        assert untouched.bad_words_token_ids is None

    @pytest.mark.parametrize(
        ("sampling", "words"),
        [
            ({"temprature": 1}, "no sampling parameter 'temprature'; did you mean temperature?"),
            ({"stop": ["x"]}, "no sampling parameter 'stop'"),
            ({"n": 2}, "no sampling parameter 'n'"),
            ({"temperature": -1}, "temperature must be non-negative"),
            ({"temperature": "hot"}, ""),
            ({"max_tokens": 0}, "max_tokens must be at least 1"),
            ({"logit_bias": {"x": 1}}, "invalid literal"),
            ({"structured_outputs": {"nonesuch": 1}}, "structured outputs constraint"),
        ],
    )
    def test_refuses(self, sampling, words):
        """What vLLM does not have, or will not take, is the request's fault."""
        with pytest.raises(InvalidArgument, match=words):
            sampling_params(Generate(1, [1], sampling))


class Words:
    """A tokenizer of the words it was given."""

    max_token_id = 1023

    def __init__(self, words):
        self.words = words

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        return self.words[text]


def output(prompt=(1,), prompt_logprobs=None, **fields):
    completion = {"token_ids": [5], "logprobs": None, "finish_reason": None, "stop_reason": None, **fields}
    return SimpleNamespace(
        outputs=[SimpleNamespace(**completion)],
        num_cached_tokens=32,
        kv_transfer_params={"remote": 1},
        prompt_token_ids=prompt,
        prompt_logprobs=prompt_logprobs,
    )


def test_deltas():
    """Tokens, the cached count of the first one, and the end with its transfer are told; nothing is told twice."""
    first = delta_of(Generate(9, [1], {}), output(), first=True)
    assert (first.id, first.token_ids, first.cached_tokens, first.finish, first.transfer) == (9, [5], 32, None, None)
    assert delta_of(Generate(9, [1], {}), output(), first=False).cached_tokens is None
    last = delta_of(Generate(9, [1], {}), output(finish_reason="stop", stop_reason=5), first=False)
    assert (last.finish, last.stop_token, last.transfer) == ("stop", 5, {"remote": 1})
    assert delta_of(Generate(9, [1], {}), output(finish_reason="repetition"), first=False).finish == "stop"
    assert "internal error" in delta_of(Generate(9, [1], {}), output(finish_reason="error"), first=False).error


@pytest.mark.parametrize(
    ("sampling", "first", "field"),
    [
        ({"structured_outputs": {"regex": "x"}}, True, "structured_outputs"),
        ({}, True, ""),
        ({"structured_outputs": {"regex": "x"}}, False, ""),
    ],
)
def test_form_that_cannot_be_compiled(sampling, first, field):
    """A request that vLLM fails before its first token, with a form, is at fault itself; any other is not."""
    delta = delta_of(Generate(9, [1], sampling), output(finish_reason="error"), first=first)
    assert (delta.finish, delta.invalid, delta.field) == ("error", bool(field), field)


def test_logprobs():
    """The sampled token comes first, then the likeliest by rank."""
    entry = SimpleNamespace
    among = {5: entry(logprob=-2.0, rank=3), 8: entry(logprob=-0.1, rank=1), 7: entry(logprob=-1.0, rank=2)}
    delta = delta_of(Generate(1, [1], {}), output(logprobs=[among]), first=False)
    assert delta.logprobs == [
        [TokenLogprob(5, -2.0, 3), TokenLogprob(8, -0.1, 1), TokenLogprob(7, -1.0, 2), TokenLogprob(5, -2.0, 3)]
    ]


def test_prompt_logprobs():
    """Every prompt token but the first has its own log probability first; they are told once."""
    entry = SimpleNamespace
    places = [None, {4: entry(logprob=-2.0, rank=2), 8: entry(logprob=-0.1, rank=1)}]
    first = delta_of(Generate(1, [3, 4], {}), output((3, 4), places), first=True)
    assert first.prompt_logprobs == [
        None,
        [TokenLogprob(4, -2.0, 2), TokenLogprob(8, -0.1, 1), TokenLogprob(4, -2.0, 2)],
    ]
    assert delta_of(Generate(1, [3, 4], {}), output((3, 4)), first=False).prompt_logprobs is None


def test_prompt_of_media():
    """With media the prompt has grown by their tokens, and the first delta says to how many."""
    asked = Generate(1, [3], {}, media=[Media("image", "image/png", b"")])
    assert delta_of(asked, output((3, 5, 5, 5)), first=True).prompt_tokens == 4
    assert delta_of(Generate(1, [3], {}), output((3,)), first=True).prompt_tokens is None


def test_load():
    """Scheduler statistics add up, what NIXL moved among them; an engine without news changes nothing."""
    load = VllmLoad().follow(None)
    load.total_blocks = 100
    scheduler = SimpleNamespace(
        num_running_reqs=2,
        num_waiting_reqs=1,
        kv_cache_usage=0.25,
        prefix_cache_stats=SimpleNamespace(queries=10, hits=8),
        kv_connector_stats={"bytes_transferred": [100, 50], "transfer_duration": [0.5], "num_failed_transfers": [1]},
    )
    iteration = SimpleNamespace(num_prompt_tokens=10, num_generation_tokens=3, num_preempted_reqs=1)
    load.record(scheduler, iteration, mm_cache_stats=None, engine_idx=0)
    load.record(None, None)
    assert (load.running, load.waiting, load.used_blocks) == (2, 1, 25)
    values = load.metrics()
    assert values["tritium_kv_received_bytes_total"] == 150
    assert values["tritium_kv_pulls_total"] == 2
    assert values["tritium_kv_pull_failures_total"] == 1
    assert values["tritium_engine_cached_prompt_tokens_total"] == 8
