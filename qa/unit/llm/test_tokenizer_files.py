import base64
import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from tritium.core.errors import InvalidArgument
from tritium.llm.detokenize import byte_characters
from tritium.llm.tokenizer import Tokenizer
from tritium.llm.tokenizer_files import read_tokenizer

CORPUS = [
    "The model that I've read doesn't say 12345 words of 1,000; it's all the same to me, and to you.",
    "def main(args):\n    return {'a': [1, 2, 3]}  # naïve café, Ελλάδα, добрый день\n\n\tdone()\n",
    "日本語の文章です。これは長い、とても長い。今日は良い天気ですね 🙂👍🏽 and 👩‍👩‍👧.",
] * 30
WORDS = [
    *(
        "the",
        "model",
        "I've",
        "1,000",
        "12345",
        "日本語",
        "です",
        "。",
        "🙂",
        "naïve",
        "é",
        "\u0301",
        "\n",
        "\n\n",
        "\t",
    ),
    *("...", "!?", "x", "_", "don't", "DON'T", "ДОБ", "\u200d", "中文abc", "/", "<", "|>"),
]
TEXT = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(["", " ", "  "])), max_size=25).map(
    lambda words: "".join(word + space for word, space in words)
)


@pytest.fixture(scope="module")
def ranks():
    """Ranked bytes, from a byte-level BPE trained on the spot."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(CORPUS, trainer)
    byte = {character: i for i, character in enumerate(byte_characters())}
    learned = sorted((i, bytes([byte[c] for c in token])) for token, i in trained.get_vocab().items() if len(token) > 1)
    return {
        token: rank for rank, token in enumerate([bytes([b]) for b in range(256)] + [token for _, token in learned])
    }


def _write_tiktoken(path, ranks):
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()))


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def sentencepiece_folder(request, tmp_path_factory):
    """A tokenizer.model as SentencePiece itself trains it."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "corpus").write_text("\n".join(CORPUS * 5))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus"),
        model_prefix=str(folder / "tokenizer"),
        model_type=request.param,
        vocab_size=350,
        byte_fallback=True,
        normalization_rule_name="identity" if request.param == "bpe" else "nmt_nfkc",
        remove_extra_whitespaces=request.param == "unigram",
        user_defined_symbols=["[IMG]"],
        control_symbols=["[CONTROL]"],
        minloglevel=2,
    )
    return folder, sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))


@settings(deadline=None)
@given(text=TEXT.filter(lambda text: text.strip()).map(str.lstrip))
def test_a_sentencepiece_model_gives_sentencepieces_ids(sentencepiece_folder, text):
    """A text of any words has the ids that SentencePiece gives it, but for spaces that begin it."""
    folder, processor = sentencepiece_folder
    if processor.encode("  a") == processor.encode("a"):
        # transformers' conversion keeps these where SentencePiece's unigram normalizes them away.
        text = " ".join(text.split())
    ours = read_tokenizer(folder)
    assert ours.encode(text, add_special_tokens=False).ids == processor.encode(text)
    assert ours.decode(processor.encode(text)) == processor.decode(processor.encode(text))


def test_what_a_sentencepiece_model_holds(sentencepiece_folder):
    """Its symbols are added tokens, control symbols special ones, and plain prompts begin with its start token."""
    folder, processor = sentencepiece_folder
    ours = read_tokenizer(folder)
    text = "a[IMG]the[CONTROL]"
    ids = ours.encode(text, add_special_tokens=False).ids
    assert processor.piece_to_id("[IMG]") in ids
    assert processor.piece_to_id("[CONTROL]") in ids
    assert "[IMG]" in ours.decode(ids)
    assert "[CONTROL]" not in ours.decode(ids)
    assert ours.encode("a").ids[0] == processor.bos_id()
    assert ours.get_vocab_size() == processor.vocab_size()


_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]", r"\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "TikTokenTokenizer": rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_ENDING}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_ENDING}?|\p{{N}}{{1,3}}{_REST}",
    "QWenTokenizer": rf"{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}",
    "": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
}


@pytest.fixture(scope="module", params=PATTERNS)
def tiktoken_pair(request, ranks, tmp_path_factory):
    """A folder with a tiktoken file, and tiktoken's own encoding of it with the family's pattern."""
    tiktoken = pytest.importorskip("tiktoken")
    folder = tmp_path_factory.mktemp("tiktoken")
    name = {"TikTokenTokenizer": "tiktoken.model", "QWenTokenizer": "qwen.tiktoken", "": "tokenizer.model"}[
        request.param
    ]
    _write_tiktoken(folder / name, ranks)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": request.param}))
    return read_tokenizer(folder), tiktoken.Encoding(
        "test", pat_str=PATTERNS[request.param], mergeable_ranks=ranks, special_tokens={}
    )


@settings(deadline=None)
@given(text=TEXT)
def test_a_tiktoken_file_gives_tiktokens_ids(tiktoken_pair, text):
    """A text has the ids that tiktoken gives it, with the pattern of the family."""
    ours, theirs = tiktoken_pair
    assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text, disallowed_special=())


def test_special_tokens_of_tiktoken_files(ranks, tmp_path):
    """They are at the ids that tokenizer_config.json gives, else those of the family's own code."""
    _write_tiktoken(tmp_path / "tiktoken.model", ranks)
    first = len(ranks)
    added = {str(first + 2): {"content": "<|im_end|>", "special": True}, str(first + 300): {"content": "<x>"}}
    config = {"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": added}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = read_tokenizer(tmp_path)
    assert ours.encode("a<|im_end|><x>", add_special_tokens=False).ids[-2:] == [first + 2, first + 300]
    assert ours.token_to_id(f"<|reserved_token_{first + 1}|>") == first + 1
    assert ours.decode([first + 2, first + 300]) == "<x>"
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "QWenTokenizer"}')
    assert read_tokenizer(tmp_path).encode("<|im_start|>", add_special_tokens=False).ids == [first + 1]


@pytest.fixture(scope="module")
def tekken(ranks, tmp_path_factory):
    """A folder with a tekken.json, and Mistral's own reading of it."""
    mistral = pytest.importorskip("mistral_common.tokens.tokenizers.tekken")
    folder = tmp_path_factory.mktemp("tekken")
    vocab = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for token, rank in ranks.items()
    ]
    pattern = PATTERNS["QWenTokenizer"]
    config = {"pattern": pattern, "num_vocab_tokens": len(vocab), "default_vocab_size": 460, "version": "v3"}
    document = {"config": {**config, "default_num_special_tokens": 30}, "vocab": vocab}
    (folder / "tekken.json").write_text(json.dumps(document))
    return read_tokenizer(folder), mistral.Tekkenizer.from_file(folder / "tekken.json")


@settings(deadline=None)
@given(text=TEXT)
def test_a_tekken_file_gives_mistrals_ids(tekken, text):
    """A text has the ids that mistral_common gives it, after the special tokens; plain prompts begin with <s>."""
    ours, theirs = tekken
    assert ours.encode(text).ids == theirs.encode(text, bos=True, eos=False)


def test_special_tokens_of_tekken_files(tekken):
    """They have Mistral's names where the file has none."""
    ours, theirs = tekken
    assert [ours.id_to_token(i) for i in range(30)] == [theirs.id_to_piece(i) for i in range(30)]
    assert ours.get_vocab_size() == theirs.n_words


@settings(deadline=None, max_examples=30)
@given(text=TEXT)
def test_a_saved_tokenizer_is_transformers(saved, text):
    """tokenizer.json with its companions gives the ids of transformers' fast tokenizer, added tokens included."""
    ours, theirs = saved
    for special in (True, False):
        assert (
            ours.encode(text + "<tool>x<|end|>", add_special_tokens=special).ids
            == theirs(text + "<tool>x<|end|>", add_special_tokens=special)["input_ids"]
        )


@pytest.fixture(scope="module")
def saved(scripted, tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("saved")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=scripted.byte_level(), bos_token="<|start|>", eos_token="<|end|>"
    )
    fast.add_tokens(["<tool>"])
    fast.save_pretrained(folder)
    return read_tokenizer(folder), transformers.PreTrainedTokenizerFast.from_pretrained(folder)


def test_a_vocabulary_and_its_merges(scripted, tmp_path):
    """vocab.json and merges.txt with added tokens beside them are GPT-2's kind of tokenizer."""
    original = scripted.byte_level()
    state = json.loads(original.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(state["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(merge) for merge in state["merges"]))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<tool_call>": 420}))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|end|>"}}))
    ours = read_tokenizer(tmp_path)
    text = "naïve model <tool_call>the router<|end|>"
    assert ours.encode(text).ids == original.encode(text, add_special_tokens=False).ids
    assert ours.decode(ours.encode(text).ids) == "naïve model <tool_call>the router"


def test_nothing_to_read_a_tokenizer_from(tmp_path):
    """The message names every file that was looked for."""
    with pytest.raises(InvalidArgument, match=r"no tokenizer\.json in .*tekken\.json, tokenizer\.model, .*vocab\.json"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.model", b"version https://git-lfs.github.com/spec/v1\n", "neither a SentencePiece model nor"),
        (
            "tokenizer.model",
            b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02\n\x7f",
            "is not a whole SentencePiece model",
        ),
        ("tiktoken.model", b"IQ== 0\nIg== 1\nno line\n", r"tiktoken\.model:3:1: not a token in base64 and its rank"),
        ("tekken.json", b'{"config": {}}', "is no tekken file"),
        ("vocab.json", b"{}", r"without merges\.txt"),
    ],
)
def test_broken_files_say_what_is_wrong(tmp_path, name, content, words):
    """A file that is no tokenizer, or half of one, is named with what is wrong about it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidArgument, match=words):
        Tokenizer.load(tmp_path)
