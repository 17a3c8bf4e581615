import itertools
import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from tritium.llm.detokenize import WindowDetokenizer, byte_characters, escape, token_table

TEXTS = [
    "a model repository is a folder",
    "naïve café, über, Ελλάδα, добрый день",
    "日本語 🙂👍🏽 and 👩‍👩‍👧 family",
    'line\nline\ttab "quote" back\\slash \u2028 \u0085 \x00 \x7f',
    "  two  spaces  <tool_call> inside",
    "",
]


@pytest.fixture(scope="module", params=["byte_level", "byte_fallback"])
def tokenizer(request, scripted):
    return getattr(scripted, request.param)()


@pytest.fixture(scope="module")
def table(tokenizer):
    return token_table(tokenizer)


def _ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", TEXTS)
def test_text_of_single_tokens_is_the_text_of_all(tokenizer, table, text):
    """Tokens pushed one by one give the text that the tokenizer decodes them to at once."""
    ids = _ids(tokenizer, text)
    detokenizer = table.detokenizer(skip_special=True)
    pieces = [detokenizer.push([i]) for i in ids]
    whole = "".join(pieces) + detokenizer.flush()
    # Decoding from the start drops the space that SentencePiece puts there; a completion is no start.
    begun = " " if tokenizer.normalizer is not None and text else ""
    assert whole == begun + tokenizer.decode(ids, skip_special_tokens=True)
    assert not any("�" in piece for piece in pieces)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_split_gives_the_same_text(scripted_byte_level, data):
    """However steps cut a sequence, byte salad included, the pieces join to the same text."""
    tokenizer, table = scripted_byte_level
    ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=40))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=8)))
    one = table.detokenizer(skip_special=True)
    expected = one.push(ids) + one.flush()
    many = table.detokenizer(skip_special=True)
    edges = [0, *cuts, len(ids)]
    pieces = [many.push(ids[a:b]) for a, b in itertools.pairwise(edges)]
    assert "".join(pieces) + many.flush() == expected
    assert expected == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.fixture(scope="module")
def scripted_byte_level(scripted):
    tokenizer = scripted.byte_level()
    return tokenizer, token_table(tokenizer)


def test_characters_of_several_tokens_wait(scripted_byte_level):
    """Part of a character is held back, and told so, until its last byte is there."""
    tokenizer, table = scripted_byte_level
    ids = _ids(tokenizer, "𓂀")
    assert len(ids) == 4
    detokenizer = table.detokenizer(skip_special=True)
    assert [detokenizer.push([i]) for i in ids] == ["", "", "", "𓂀"]
    assert not detokenizer.holding
    detokenizer.push(ids[:2])
    assert detokenizer.holding
    assert detokenizer.flush() == "�"


def test_escaped_pieces_are_json(scripted_byte_level):
    """The escaped form of every token that is whole characters is its text as JSON; of special ones it is empty."""
    _tokenizer, table = scripted_byte_level
    seen = 0
    for i, escaped in enumerate(table.escaped):
        if i in table.special:
            assert escaped == b""
        elif escaped is not None:
            assert json.loads(b'"' + escaped + b'"') == table.pieces[i].decode()
            seen += 1
        else:
            with pytest.raises(UnicodeDecodeError):
                table.pieces[i].decode()
    assert seen > 200


def test_escape_leaves_no_line_ends():
    """A chunk has no character at which a client that splits lines could cut it."""
    text = "a\nb\r\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e é"
    escaped = escape(text).decode()
    assert len(escaped.splitlines()) == 1
    assert json.loads(f'"{escaped}"') == text


def test_special_tokens_are_hidden_or_shown(scripted_byte_level):
    """Special tokens are no text, unless the client asks for them."""
    tokenizer, table = scripted_byte_level
    ids = _ids(tokenizer, "<|user|>hi<|end|>")
    assert table.detokenizer(skip_special=True).push(ids) == "hi"
    assert table.detokenizer(skip_special=False).push(ids) == "<|user|>hi<|end|>"


def test_ids_beyond_the_vocabulary_are_no_text(scripted_byte_level):
    """A model whose head is padded may sample an id without a token; it has no text and harms nothing."""
    tokenizer, table = scripted_byte_level
    detokenizer = table.detokenizer(skip_special=True)
    assert detokenizer.push([tokenizer.get_vocab_size() + 5, *_ids(tokenizer, "hi"), -1]) == "hi"


def test_other_tokenizers_decode_a_window(scripted):
    """A tokenizer whose tokens need their neighbours has no table; a window of them gives the same text."""
    tokenizer = scripted.word_pieces()
    assert token_table(tokenizer) is None
    ids = _ids(tokenizer, "the router sends a request to the worker that already holds the blocks")
    detokenizer = WindowDetokenizer(tokenizer, ids[:3], skip_special=True)
    text = "".join(detokenizer.push([i]) for i in ids[3:]) + detokenizer.flush()
    assert tokenizer.decode(ids[:3]) + text == tokenizer.decode(ids)


@pytest.mark.parametrize("text", TEXTS[:3])
def test_window_and_table_agree(scripted_byte_level, text):
    """The two ways of detokenizing give the same text, and neither shows a character that is not whole."""
    tokenizer, table = scripted_byte_level
    ids = _ids(tokenizer, text)
    for detokenizer in (WindowDetokenizer(tokenizer, [], skip_special=True), table.detokenizer(skip_special=True)):
        pieces = [detokenizer.push([i]) for i in ids]
        assert "".join(pieces) == text
        assert not any("�" in piece for piece in pieces)


def _metaspace(split):
    words = ["\u2581", "a", "b", "\u2581a", "é", "日", "\u2581\u2581", "<x>"]
    backend = tokenizers.Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [("\u2581", "a")]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=split)
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    return backend


def _unigram():
    pieces = [
        ("<unk>", 0.0),
        *((f"<0x{b:02X}>", -9.0) for b in range(256)),
        ("\u2581", -2.0),
        ("\u2581the", -3.0),
        ("é", -4.0),
    ]
    backend = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


def _no_table(scripted):
    """A tokenizer whose decoder is not known, so that a window decodes it, with tokens that are parts of characters."""
    backend = scripted.byte_level()
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()])
    return backend


KINDS = {
    "byte_level": lambda scripted: scripted.byte_level(),
    "byte_fallback": lambda scripted: scripted.byte_fallback(),
    "word_pieces": lambda scripted: scripted.word_pieces(),
    "metaspace": lambda _: _metaspace(split=False),
    "metaspace_split": lambda _: _metaspace(split=True),
    "unigram": lambda _: _unigram(),
    "window_of_bytes": _no_table,
}


@pytest.fixture(scope="module", params=KINDS)
def added(request, scripted):
    backend = KINDS[request.param](scripted)
    backend.add_special_tokens(["<|stop|>"])
    backend.add_tokens(["<tool>", "\n\n"])
    return backend


WORDS = [
    "the ",
    " a",
    "naïve",
    "日本",
    "🙂👍🏽",
    "<tool>",
    "<|stop|>",
    "\n\n",
    "  ",
    "\u200d",
    "é",
    "request ",
    "sends ",
]


@settings(deadline=None, max_examples=60)
@given(words=st.lists(st.sampled_from(WORDS), max_size=12), cuts=st.lists(st.integers(0, 60), max_size=8))
@pytest.mark.parametrize("skip", [True, False])
def test_deltas_add_up_to_the_decoding_of_the_whole(added, skip, words, cuts):
    """For every kind of tokenizer the pieces of a completion are what decoding it adds to its prompt's text."""
    prompt, ids = _ids(added, "the request "), _ids(added, "".join(words))
    table = token_table(added)
    detokenizer = table.detokenizer(skip_special=skip) if table else WindowDetokenizer(added, prompt, skip_special=skip)
    edges = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    pieces = [detokenizer.push(ids[a:b]) for a, b in itertools.pairwise(edges)]
    before = added.decode(prompt, skip_special_tokens=skip)
    assert before + "".join(pieces) + detokenizer.flush() == added.decode(prompt + ids, skip_special_tokens=skip)
    assert not any("�" in piece for piece in pieces)


@pytest.mark.parametrize("kind", ["byte_level", "window_of_bytes"])
def test_bytes_that_are_no_text_do_not_wait_for_ever(scripted, kind):
    """Bytes that cannot become a character are replaced as soon as that is certain, and what follows them is sent."""
    backend = KINDS[kind](scripted)
    [broken] = [i for token, i in backend.get_vocab().items() if token == byte_characters()[0xFF]]
    table = token_table(backend)
    detokenizer = table.detokenizer(skip_special=True) if table else WindowDetokenizer(backend, [], skip_special=True)
    sent = [detokenizer.push([broken]) for _ in range(20)]
    assert "".join(sent).count("�") >= 15
    assert detokenizer.push(_ids(backend, "ok")).endswith("ok")
