"""Sampling fields: what they do to a row of logits, and how wrong ones are refused."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tritium.backends.embedded.sampling import Sampler, log_probabilities, read_sampling, report
from tritium.core.errors import InferenceError

LOGITS = np.array([1.0, 3.0, 2.0, -1.0, 2.5], np.float32)


def sampler(prompt: list[int] | None = None, ends: frozenset[int] = frozenset(), **fields: Any) -> Sampler:
    return Sampler(read_sampling(fields, len(LOGITS)), prompt or [0], ends, seed=1)


def picks(under_test: Sampler, count: int) -> list[int]:
    return [under_test.pick(LOGITS.copy()) for _ in range(count)]


def test_greedy_takes_the_likeliest() -> None:
    """Temperature 0 is argmax."""
    assert picks(sampler(temperature=0), 3) == [1, 1, 1]


def test_draws_follow_the_probabilities() -> None:
    """At temperature 1 tokens come as often as the softmax says."""
    drawn = Counter(picks(sampler(temperature=1.0, seed=5), 20_000))
    for token, probability in enumerate(np.exp(log_probabilities(LOGITS))):
        assert drawn[token] / 20_000 == pytest.approx(probability, abs=0.015)


def test_temperature_changes_the_odds() -> None:
    """At temperature 2 the odds of two tokens are the square root of what they were."""
    drawn = Counter(picks(sampler(temperature=2.0, seed=5), 40_000))
    assert drawn[1] / drawn[2] == pytest.approx(np.exp(0.5), rel=0.1)


@pytest.mark.parametrize(
    ("fields", "possible"),
    [
        ({"top_k": 2}, {1, 4}),
        ({"top_p": 0.4}, {1}),
        ({"top_p": 0.8}, {1, 4, 2}),
        ({"min_p": 0.5}, {1, 4}),
        ({"allowed_token_ids": [0, 3]}, {0, 3}),
        ({"logit_bias": {"3": 100}}, {3}),
        ({"top_k": 3, "top_p": 0.6, "min_p": 0.1}, {1, 4}),
        ({"top_k": -1}, {0, 1, 2, 3, 4}),
    ],
)
def test_fields_bound_what_can_come(fields: dict[str, Any], possible: set[int]) -> None:
    """Each limit lets through exactly the tokens it should."""
    assert set(picks(sampler(temperature=1.0, seed=3, **fields), 3_000)) == possible


def test_a_seed_repeats() -> None:
    """Equal seeds give equal draws, others differ."""
    assert picks(sampler(seed=7), 50) == picks(sampler(seed=7), 50)
    assert picks(sampler(seed=7), 50) != picks(sampler(seed=8), 50)
    assert picks(sampler(seed=-7), 5) == picks(sampler(seed=-7), 5)


def test_penalties_count_what_was_produced() -> None:
    """Presence and frequency look at the output alone, repetition at the prompt too."""
    assert picks(sampler(temperature=0, presence_penalty=0.6), 4) == [1, 4, 1, 1]
    assert picks(sampler(temperature=0, frequency_penalty=0.4), 6) == [1, 1, 4, 1, 4, 2]
    assert picks(sampler(prompt=[1], temperature=0, repetition_penalty=2.0), 2) == [4, 2]


def test_end_tokens_wait_for_min_tokens() -> None:
    """Before min_tokens an end or stop token cannot come."""
    assert picks(sampler(temperature=0, min_tokens=2, ends=frozenset({1})), 3) == [4, 4, 1]


def test_logprobs_are_raw_and_ranked() -> None:
    """What is reported is the softmax of the model's own logits; the picked token comes first."""
    logprobs = log_probabilities(LOGITS)
    reported = report(logprobs, 2, 2)
    assert [(each.token_id, each.rank) for each in reported] == [(2, 3), (1, 1), (4, 2)]
    assert reported[0].logprob == pytest.approx(float(2 - np.log(np.exp(LOGITS).sum())), abs=1e-5)
    assert len(report(logprobs, 0, 0)) == 1
    assert len(report(logprobs, 0, -1)) == 1 + len(LOGITS)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temprature": 1}, "unknown sampling field 'temprature'"),
        ({"structured_outputs": "json"}, "structured_outputs"),
        ({"bad_words": ["x"]}, "bad_words is not supported by the embedded engine"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"temperature": "hot"}, "Expected `float`, got `str`"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logit_bias": {"9": 1}}, "token id 9 is outside the vocabulary of 5"),
        ({"allowed_token_ids": []}, "allowed_token_ids is empty"),
    ],
)
def test_wrong_fields_are_refused_by_name(fields: dict[str, Any], words: str) -> None:
    """The message names the field and what is wrong with it."""
    with pytest.raises(InferenceError, match=words):
        read_sampling(fields, len(LOGITS))


def test_a_near_miss_gets_a_hint() -> None:
    """A mistyped field is answered with the likely one."""
    with pytest.raises(InferenceError) as caught:
        read_sampling({"temprature": 1}, 5)
    assert caught.value.hint == "did you mean temperature?"
