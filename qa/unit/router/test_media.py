"""Prompts with pictures: laid out as engines have them, told apart as vLLM tells them, found beyond their pictures."""

import importlib.util
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.router.blocks import hash_blocks
from tritium.router.media import MediaItem, MediaLengths

IMAGE, SOUND = 900, 901
LENGTHS = {"cat": 5, "dog": 7, "owl": 1, "song": 11}
TOKENS = {"cat": IMAGE, "dog": IMAGE, "owl": IMAGE, "song": SOUND}

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")

parts = st.lists(st.one_of(st.integers(0, 3), st.sampled_from(sorted(LENGTHS))), max_size=24)
"""A prompt: tokens, and the names of media."""


def as_the_front_has_it(parts):
    """Return the prompt with a placeholder for each item, and its items."""
    items = [MediaItem(part, TOKENS[part]) for part in parts if isinstance(part, str)]
    return [TOKENS[part] if isinstance(part, str) else part for part in parts], items


def as_the_engine_has_it(parts):
    """Return the prompt at its full length, and where each item begins."""
    tokens, places = [], {}
    for part in parts:
        if isinstance(part, str):
            places[len(tokens)] = part
            tokens += [TOKENS[part]] * LENGTHS[part]
        else:
            tokens.append(part)
    return tokens, places


def knowing(*names):
    """Return lengths that were learnt from prompts with one item each."""
    lengths = MediaLengths()
    for name in names:
        lengths.learn(*as_the_front_has_it([1, name, 2]), 2 + LENGTHS[name])
    return lengths


def common(one, other):
    """Return how many leading blocks are the same."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@given(parts)
def test_known_media_are_laid_out_as_the_engine_has_them(parts):
    """With every length known a front has the engine's tokens, and every item at its place."""
    laid = knowing(*LENGTHS).lay_out(*as_the_front_has_it(parts))
    assert (list(laid.token_ids), laid.media) == as_the_engine_has_it(parts)


@given(parts)
def test_lengths_are_learnt_from_answers(parts):
    """One unknown item, however often it is in a prompt, is known after the answer; of two nothing is concluded."""
    tokens, items = as_the_front_has_it(parts)
    lengths = MediaLengths()
    lengths.learn(tokens, items, len(as_the_engine_has_it(parts)[0]))
    known = len({item.key for item in items}) == 1
    expected = as_the_engine_has_it(parts)[0] if known else tokens
    assert list(lengths.lay_out(tokens, items).token_ids) == expected


def test_nonsense_is_not_learnt():
    """A prompt without its placeholders, and lengths that do not come out even, teach nothing."""
    lengths = MediaLengths()
    cat = MediaItem("cat", IMAGE)
    lengths.learn([1, 2, 3], [cat], 50)
    lengths.learn([IMAGE, IMAGE], [cat, cat], 5)
    lengths.learn([1, IMAGE], [cat], 1)
    assert list(lengths.lay_out([IMAGE, 1], [cat]).token_ids) == [IMAGE, 1]
    assert lengths.lay_out([1, 2, 3], [cat]).media == {}


def test_what_was_not_asked_for_longest_is_forgotten(monkeypatch):
    """The memory of lengths is bounded."""
    monkeypatch.setattr("tritium.router.media._MOST", 2)
    lengths = knowing("cat", "dog", "cat", "song")
    known = [
        name for name in ("cat", "dog", "song") if len(lengths.lay_out([TOKENS[name]], as_items(name)).token_ids) > 1
    ]
    assert known == ["cat", "song"]


def as_items(name):
    return [MediaItem(name, TOKENS[name])]


@dataclass
class Place:
    offset: int
    length: int


@dataclass
class Feature:
    identifier: str
    mm_position: Place


@dataclass
class Asked:
    """As much of vLLM's Request as its hashing reads."""

    mm_features: list[Feature]
    lora_request: None = None
    cache_salt: None = None
    prompt_embeds: None = None
    prompt_embeds_per_block_hashes: dict = field(default_factory=dict)


@pytest.fixture(scope="module")
def vllm():
    """vLLM's module of block hashes, imported once."""
    from vllm.utils.hashing import sha256  # noqa: PLC0415  it brings torch along
    from vllm.v1.core import kv_cache_utils  # noqa: PLC0415  as above

    kv_cache_utils.init_none_hash(sha256)
    return kv_cache_utils


def vllms_hashes(vllm, parts, size):
    """Return the hashes that vLLM itself gives to a prompt's blocks."""
    from vllm.utils.hashing import sha256  # noqa: PLC0415  as above

    tokens, places = as_the_engine_has_it(parts)
    asked = Asked([Feature(name, Place(offset, LENGTHS[name])) for offset, name in places.items()])
    hashes, before, item = [], None, 0
    for start in range(0, len(tokens) - size + 1, size):
        extra, item = vllm.generate_block_hash_extra_keys(asked, start, start + size, item)
        before = vllm.hash_block_tokens(sha256, before, tokens[start : start + size], extra)
        hashes.append(before)
    return hashes


@needs_vllm
@pytest.mark.vllm
@pytest.mark.filterwarnings("ignore")  # vLLM's and torch's own, at import
@given(beginning=parts, one=parts, other=parts, size=st.integers(1, 6))
def test_a_front_tells_prompts_apart_as_vllm_does(vllm, beginning, one, other, size):
    """Two prompts of a front have as many blocks in common as vLLM's own hashes of them, beyond their pictures, too."""
    lengths = knowing(*LENGTHS)
    ours, theirs = [], []
    for whole in (beginning + one, beginning + other):
        laid = lengths.lay_out(*as_the_front_has_it(whole))
        ours.append(hash_blocks(laid.token_ids, size, media=laid.media))
        theirs.append(vllms_hashes(vllm, whole, size))
    assert [len(hashes) for hashes in ours] == [len(hashes) for hashes in theirs]
    assert common(*ours) == common(*theirs)
