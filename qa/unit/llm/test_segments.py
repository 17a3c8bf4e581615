import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

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
    kept = Segmenter({"|": 0}, max_bytes=2_000)
    rng = random.Random(1)
    for n in range(200):
        part = f"{n:04d}" * rng.randint(1, 10)
        assert kept.cut(f"|{part}|").join([[n]]) == [0, n, 0]
        assert kept.bytes <= 2_000
        assert kept.cut(part).missing == []
    kept.cut("x" * 2_001).join([[1]])
    assert kept.cut("x" * 2_001).missing == ["x" * 2_001]


def test_parts_forgotten_meanwhile_are_still_there_for_a_text_being_encoded():
    """A text that waits for its missing parts keeps the known ones, though others push them out."""
    kept = Segmenter({"|": 0}, max_bytes=300)
    kept.cut("12345").join([[7]])
    waiting = kept.cut("12345|678")
    kept.cut("abcdefghij").join([[8]])
    assert kept.cut("12345").missing == ["12345"]
    assert waiting.join([[9]]) == [7, 0, 9]


async def test_prompts_that_begin_alike_pay_for_their_ends(backend):
    """Of a long shared document only the last piece before the difference is computed again."""
    tokenizer = Tokenizer(backend)
    document = " ".join(f"line {n} of the document that all users share" for n in range(200))
    await tokenizer.encode(f"<|user|>{document} What is it?<|end|>", add_special=False)
    before = tokenizer.reuse.computed_tokens
    text = f"<|user|>{document} And why?<|end|>"
    whole = tokenizer.encode_now(text, add_special=False)
    assert await tokenizer.encode(text, add_special=False) == whole
    assert tokenizer.reuse.computed_tokens - before < len(whole) // 10


async def test_a_text_without_spaces_is_one_piece(backend):
    """Where there is no place to cut at, a text is encoded whole."""
    tokenizer = Tokenizer(backend)
    text = "日本語" * 1_000
    assert await tokenizer.encode(text, add_special=True) == tokenizer.encode_now(text, add_special=True)


def test_tokens_that_reach_beyond_themselves_do_not_cut(scripted):
    """A special token that swallows spaces, or that another one overlaps or contains, is no place to cut at."""
    backend = scripted.byte_level()
    backend.add_special_tokens([AddedToken("<|wide|>", lstrip=True), "<|user|><|end|>", "<|and|><", "<|s"])
    special = segmenter(backend).special
    assert not {"<|wide|>", "<|user|>", "<|system|>", "<|end|>"} & special.keys()


async def test_many_special_tokens_cost_no_more(backend):
    """A thousand special tokens that begin alike are looked for as one."""
    kept = Segmenter({f"<SPECIAL_{n}>": n for n in range(1_000)})
    pieces = kept.cut("a <SPECIAL_7> b <SPECIAL_77><SPECIAL_x> <SPECIAL_777>")
    assert pieces.missing == ["a ", " b ", "<SPECIAL_x> "]
    assert pieces.join([[1], [2], [3]]) == [1, 7, 2, 77, 3, 777]
