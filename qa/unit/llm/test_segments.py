import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers, pre_tokenizers

from tritium.llm.segments import Segmenter, segmenter
from tritium.llm.tokenizer import Tokenizer

PIECES = [
    "<|user|>",
    "<|end|>",
    "<|assistant|>",
    "<tool_call>",
    "  ",
    " ",
    "\n",
    "hi",
    "naïve 日本",
    "🙂",
    "<|",
    "|>",
    "user",
]


@pytest.fixture(scope="module")
def backend(scripted):
    return scripted.byte_level()


@pytest.fixture(scope="module")
def tokenizer(backend):
    return Tokenizer(backend)


@settings(deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14))
async def test_parts_add_up_to_the_whole(tokenizer, pieces):
    """The ids of a text, its parts remembered or not, are those of encoding it whole."""
    text = "".join(pieces)
    whole = tokenizer.encode_now(text, add_special=False)
    assert await tokenizer.encode(text, add_special=False) == whole
    assert await tokenizer.encode(text, add_special=False) == whole


async def test_only_the_new_part_is_tokenized(backend, monkeypatch):
    """Of a conversation that goes on, only what was added is tokenized again."""
    tokenizer = Tokenizer(backend)
    first = "<|user|>What is a model repository?<|end|><|assistant|>"
    await tokenizer.encode(first, add_special=False)
    encoded = []
    encode_now = tokenizer.encode_now
    monkeypatch.setattr(tokenizer, "encode_now", lambda text, **k: encoded.append(text) or encode_now(text, **k))
    await tokenizer.encode(first + "A folder.<|end|><|user|>Thanks!<|end|><|assistant|>", add_special=False)
    assert encoded == ["A folder.", "Thanks!"]


async def test_long_parts_are_remembered_too(backend):
    """A part that is encoded in a thread is remembered like any other, also when it comes twice in one text."""
    tokenizer = Tokenizer(backend)
    long = "a model repository is a folder " * 500
    text = f"<|user|>{long}<|end|>{long}<|end|>"
    whole = tokenizer.encode_now(text, add_special=False)
    assert await tokenizer.encode(text, add_special=False) == whole
    assert tokenizer._segmenter.cut(text).missing == []


def test_memory_is_bounded():
    """The least recently used parts are forgotten beyond the bound; one larger than it is not kept at all."""
    kept = Segmenter({"|": 0}, max_characters=100)
    rng = random.Random(1)
    for n in range(200):
        part = f"{n:04d}" * rng.randint(1, 10)
        assert kept.cut(f"|{part}|").join([[n]]) == [0, n, 0]
        assert kept.characters <= 100
        assert kept.cut(part).missing == []
    kept.cut("x" * 101).join([[1]])
    assert kept.cut("x" * 101).missing == ["x" * 101]


def test_parts_forgotten_meanwhile_are_still_there_for_a_text_being_encoded():
    """A text that waits for its missing parts keeps the known ones, though others push them out."""
    kept = Segmenter({"|": 0}, max_characters=10)
    kept.cut("12345").join([[7]])
    waiting = kept.cut("12345|678")
    kept.cut("abcdefghij").join([[8]])
    assert kept.cut("12345").missing == ["12345"]
    assert waiting.join([[9]]) == [7, 0, 9]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.Metaspace()),
        lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda t: setattr(t, "normalizer", normalizers.Prepend("_")),
        lambda t: setattr(t, "normalizer", normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])),
    ],
    ids=["metaspace", "prefix_space", "prepend", "strip"],
)
def test_tokenizers_whose_parts_depend_on_their_place_are_left_alone(scripted, change):
    """Where the beginning of a text is treated in a way of its own, texts are encoded whole."""
    backend = scripted.byte_level()
    change(backend)
    assert segmenter(backend) is None


def test_tokens_that_reach_beyond_themselves_do_not_cut(scripted):
    """A special token that swallows spaces, or is part of a longer one, is no place to cut at."""
    backend = scripted.byte_level()
    backend.add_special_tokens([AddedToken("<|wide|>", lstrip=True), "<|user|><|end|>"])
    special = segmenter(backend).special
    assert "<|wide|>" not in special
    assert "<|user|>" not in special
    assert "<|assistant|>" in special
