import itertools
import json
import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, trainers
from tokenizers import pre_tokenizers as pre

from tritium.llm import segments
from tritium.llm.boundaries import safe_boundaries
from tritium.llm.pattern import read_pattern
from tritium.llm.tokenizer import Tokenizer as Ours

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KIMI = (
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TIKTOKEN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++\z"
    r"|\s*[\r\n]|\s+(?!\S)|\s"
)
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = [
    "The model that I've read don't say 12345 words of 1,000; it's all the same to me, and to you.",
    "def main(args):\n    return {'a': [1, 2, 3]}  # naïve café, Ελλάδα, добрый день\n\n\tdone()\r\n",
    "日本語の文章です。これは長い、とても長い。今日は良い天気ですね 🙂👍🏽 and 👩‍👩‍👧.",
    "hello hello the the a a b b " * 4,
] * 3
SPECIAL = ["<s>", "</s>", "<|user|>"]


def _split(*patterns):
    stages = [pre.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre.Sequence([*stages, pre.ByteLevel(add_prefix_space=False, use_regex=False)])


def _bpe(pre_tokenizer=None, normalizer=None, *, bytes_too=False, **model):
    """Train a BPE; without a pre-tokenizer that cuts at spaces it learns words, as SentencePiece does."""
    trained = Tokenizer(models.BPE(unk_token="<unk>" if bytes_too else None))
    trained.pre_tokenizer = pre.Metaspace(prepend_scheme="always") if bytes_too else pre_tokenizer
    special = ["<unk>", *SPECIAL, *(f"<0x{b:02X}>" for b in range(256))] if bytes_too else SPECIAL
    trainer = trainers.BpeTrainer(
        vocab_size=len(special) + 500,
        special_tokens=special,
        initial_alphabet=[] if bytes_too else pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(CORPUS, trainer)
    if not bytes_too:
        if model:
            for name, value in model.items():
                setattr(trained.model, name, value)
        return trained
    state = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in state["merges"]]
    backend = Tokenizer(models.BPE(state["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer, backend.pre_tokenizer = normalizer, pre_tokenizer
    backend.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in ["<unk>", *SPECIAL]])
    return backend


def _normalized(backend, normalizer):
    backend.normalizer = normalizer
    return backend


def _unigram():
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre.Metaspace(prepend_scheme="always")
    trained.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=300, special_tokens=["<unk>", *SPECIAL], unk_token="<unk>")
    )
    return trained


KINDS = {
    "gpt2": lambda: _bpe(pre.ByteLevel(add_prefix_space=False)),
    "gpt2_prefixed": lambda: _bpe(pre.ByteLevel(add_prefix_space=True)),
    "llama3": lambda: _bpe(_split(LLAMA3), ignore_merges=True),
    "tekken": lambda: _bpe(_split(TEKKEN), ignore_merges=True),
    "kimi": lambda: _bpe(_split(KIMI)),
    "tiktoken": lambda: _bpe(_split(TIKTOKEN)),
    "deepseek": lambda: _bpe(_split(r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK)),
    "qwen": lambda: _normalized(_bpe(_split(LLAMA3.replace("{1,3}", ""))), normalizers.NFC()),
    "llama2_legacy": lambda: _bpe(
        None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), bytes_too=True
    ),
    "llama2": lambda: _bpe(pre.Metaspace(prepend_scheme="first", split=False), bytes_too=True),
    "metaspace_always": lambda: _bpe(pre.Metaspace(prepend_scheme="always", split=False), bytes_too=True),
    "metaspace_split": lambda: _bpe(pre.Metaspace(prepend_scheme="first", split=True), bytes_too=True),
    "gemma": lambda: _bpe(pre.Split(" ", "merged_with_previous"), normalizers.Replace(" ", "▁"), bytes_too=True),
    "unigram": _unigram,
}


WORDS = [
    *(
        "hello",
        "the",
        "a",
        "Model",
        "I'VE",
        "don't",
        "1",
        "12345",
        "1,000",
        "日本語",
        "です",
        "。",
        "、",
        "🙂",
        "naïve",
        "é",
    ),
    *(
        "\u0301",
        "\u200d",
        "▁",
        "foo▁bar",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "  ",
        "   ",
        "...",
        "!?",
        "/",
        "'s",
        "_",
        "'",
        "ﬁ",
        "\uff21",
    ),
    *("天气", "中文\uff0c", "很好。", "\uff0c", "\uff01", "一", "龥", "、然后", "ー", "今日は"),
    *SPECIAL,
    *("é", "<", "<|", "|>", "s>", "ﬁ", "\uff21"),
]
TEXT = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(["", " ", " ", "  "])), max_size=40).map(
    lambda words: "".join(word + space for word, space in words)
)
EDITS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 5), st.sampled_from([*WORDS, " ", ""])), max_size=4)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return Ours(KINDS[request.param]())


@settings(deadline=None, max_examples=200)
@given(text=TEXT, edits=EDITS)
async def test_pieces_join_to_the_whole(tokenizer, text, edits):
    """For every kind of tokenizer the ids of a text, and of its edited forms, are those of encoding it whole."""
    assert tokenizer._segmenter.boundaries is not None
    with pytest.MonkeyPatch.context() as small:
        small.setattr(segments, "_PIECE_CHARACTERS", 3)
        for where, drop, put in [(0, 0, ""), *edits]:
            text = text[:where] + put + text[where + drop :]
            for special in (False, True):
                whole = tokenizer.encode_now(text, add_special=special)
                assert await tokenizer.encode(text, add_special=special) == whole


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_reuses_what_it_has_seen(kind):
    """A long text seen before is not computed again, and a longer one only from where it goes on."""
    tokenizer = Ours(KINDS[kind]())
    rng = random.Random(1)
    text = " ".join(rng.choice(["the", "model", "12", "naïve", "hello,"]) for _ in range(2_000))
    await tokenizer.encode(text, add_special=False)
    computed = tokenizer.reuse.computed_tokens
    await tokenizer.encode(text, add_special=False)
    assert tokenizer.reuse.computed_tokens == computed
    longer = f"{text} and hello"
    assert await tokenizer.encode(longer, add_special=False) == tokenizer.encode_now(longer, add_special=False)
    assert tokenizer.reuse.computed_tokens - computed < computed / 4


@pytest.mark.parametrize("kind", ["llama3", "tekken", "kimi", "deepseek", "qwen", "gpt2"])
async def test_chinese_is_reused_too(kind):
    """A text without spaces is cut before its punctuation."""
    tokenizer = Ours(KINDS[kind]())
    rng = random.Random(1)
    text = "".join(
        rng.choice(["今天天气", "很好", "我们", "去"]) + rng.choice(["", "", "\uff0c", "。", "\uff01"])
        for _ in range(2_000)
    )
    await tokenizer.encode(text, add_special=False)
    computed = tokenizer.reuse.computed_tokens
    longer = f"{text}吗\uff1f"
    assert await tokenizer.encode(longer, add_special=False) == tokenizer.encode_now(longer, add_special=False)
    assert tokenizer.reuse.computed_tokens - computed < computed / 4


def _cut_at_space(backend):
    boundaries = safe_boundaries(backend)
    return boundaries is not None and boundaries.place.search("hello the") is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda t: setattr(t, "pre_tokenizer", _split(r"\w+ \w+|.")),
        lambda t: setattr(t, "pre_tokenizer", _split(r"[\w\s]+")),
        lambda t: setattr(t, "pre_tokenizer", _split(r"\w+(?!\s)|\s+")),
        lambda t: setattr(t, "pre_tokenizer", _split(r"(?<=a) b|\S+|\s+")),
        lambda t: setattr(t, "pre_tokenizer", pre.Split(" ", "merged_with_previous")),
        lambda t: setattr(t, "pre_tokenizer", None),
        lambda t: setattr(t, "normalizer", normalizers.Strip()),
        lambda t: setattr(t, "normalizer", normalizers.Replace("a b", "c")),
        lambda t: t.add_tokens(["hello the", AddedToken("line\nend")]),
        lambda t: t.add_tokens([AddedToken("word", rstrip=True)]),
    ],
)
def test_tokenizers_that_reach_over_a_space_are_not_cut(change):
    """Whatever may join or look across a letter and a space, or is not understood, forbids to cut there."""
    backend = KINDS["llama3"]()
    assert _cut_at_space(backend)
    change(backend)
    assert not _cut_at_space(backend)


def test_a_vocabulary_that_joins_words_forbids_to_cut():
    """A BPE without words, as SentencePiece's, is not cut where a token of it holds a letter and the space after it."""
    backend = Tokenizer(models.BPE({"a": 0, "▁": 1, "b": 2, "a▁": 3}, [("a", "▁")], byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    assert not _cut_at_space(backend)
    assert backend.encode("a b").ids != [*backend.encode("a").ids, *backend.encode(" b").ids]


@pytest.mark.parametrize("pattern", [LLAMA3, TEKKEN, KIMI, TIKTOKEN, DEEPSEEK])
def test_a_match_is_never_outside_what_was_read(pattern):
    """What a pattern really matches of random samples is within what reading it said it can match."""
    samples = string.ascii_letters + string.digits + " \n'.,日"
    read = read_pattern(pattern, samples)
    split = pre.Split(Regex(pattern), "removed", invert=True)
    rng = random.Random(2)
    for _ in range(300):
        text = "".join(rng.choices(samples, k=30))
        for match, _ in split.pre_tokenize_str(text):
            assert match[0] in read.first
            assert match[-1] in read.last
            assert set(itertools.pairwise(match)) <= read.pairs
            assert len(match) > 1 or match in read.single


@pytest.mark.parametrize(
    "pattern", [r"(a", "[a", r"a{2", r"(?<!a)b", r"\b", r"\p{Unheard}", r"(?P<x>a)", r"(a)\1", "a)"]
)
def test_patterns_that_are_not_understood(pattern):
    """A construct that is not known, or a pattern that is none, is not read at all."""
    assert read_pattern(pattern, "ab ") is None
