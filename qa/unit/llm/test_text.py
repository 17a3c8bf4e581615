import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritium.backends.engine import Delta
from tritium.llm.sampling import Sampling
from tritium.llm.text import CompletionText
from tritium.llm.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(scripted):
    return Tokenizer(scripted.byte_level())


def _feed(tokenizer, sampling, steps, finish="length", stop_token=None):
    """Return the text of a completion that comes in these steps, and how it ended."""
    completion = CompletionText(tokenizer, sampling, [1])
    pieces = []
    for last, step in enumerate(steps, 1 - len(steps)):
        ended = finish if last == 0 else None
        pieces.append(completion.push(Delta(1, list(step), finish=ended, stop_token=stop_token if ended else None)))
        if completion.finish:
            break
    return "".join(pieces), completion


@settings(deadline=None, max_examples=80)
@given(
    ids=st.lists(st.integers(0, 420), min_size=1, max_size=30),
    cuts=st.lists(st.integers(1, 30), max_size=6),
    stops=st.lists(st.sampled_from(["a", "er", "the ", "�", "日", "ab", "🙂"]), max_size=2),
)
def test_every_way_of_stepping_gives_the_same_text(tokenizer, ids, cuts, stops):
    """However an engine groups tokens into steps, the text and the reason of its end are the same."""
    sampling = Sampling(stop=tuple(stops))
    edges = sorted({0, len(ids), *(c for c in cuts if c < len(ids))})
    one, by_one = _feed(tokenizer, sampling, [[i] for i in ids])
    many, by_step = _feed(tokenizer, sampling, [ids[a:b] for a, b in itertools.pairwise(edges)])
    assert (one, by_one.finish, by_one.stop_reason) == (many, by_step.finish, by_step.stop_reason)
    assert not any(stop in one for stop in stops)


def test_token_that_ended_it_is_counted_but_not_shown(tokenizer):
    """A stop token is part of the count and no part of the text, special or not, unless it is asked for."""
    ids = tokenizer.encode_now("yes no", add_special=False)
    shown = tokenizer.decode(ids[:-1])
    text, completion = _feed(tokenizer, Sampling(), [ids], "stop", ids[-1])
    assert (text, completion.tokens, completion.stop_reason) == (shown, len(ids), ids[-1])
    text, _ = _feed(tokenizer, Sampling(include_stop=True), [ids], "stop", ids[-1])
    assert text == "yes no"


def test_stop_strings_wait_for_min_tokens(tokenizer):
    """Before min_tokens a stop string is text like any other."""
    ids = tokenizer.encode_now("a a a a a a", add_special=False)
    text, completion = _feed(tokenizer, Sampling(stop=("a",), min_tokens=3), [[i] for i in ids])
    assert completion.finish == "stop"
    assert completion.tokens >= 3
    assert text.count("a") >= 1


def test_character_cut_off_by_the_length_is_marked(tokenizer):
    """A character whose last bytes never came is shown as U+FFFD, as the tokenizer decodes the same ids."""
    ids = tokenizer.encode_now("ok 𓂀", add_special=False)[:-1]
    text, _ = _feed(tokenizer, Sampling(), [[i] for i in ids])
    assert text == tokenizer.decode(ids) == "ok �"


def test_a_few_steps_are_timed(tokenizer):
    """The first step of a completion is timed and one in 64 after it; the stage is told beside the others."""
    before = sum(tokenizer.decode_s.counts)
    _feed(tokenizer, Sampling(), [[70]] * 130)
    assert sum(tokenizer.decode_s.counts) - before == 3
    stages = {sample.labels["stage"] for sample in tokenizer.stage_metrics("m")}
    assert stages == {"render", "tokenize", "detokenize"}
