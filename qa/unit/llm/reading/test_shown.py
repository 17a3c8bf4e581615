"""Special tokens that a reader goes by are in its text, whichever way a tokenizer's ids become text."""

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tritium.llm.detokenize import TableDetokenizer, WindowDetokenizer, token_table

WORDS = ["[UNK]", "hello", "world", "##s"]


def window_tokenizer():
    made = tokenizers.Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(["<call>", "<end>"])
    return made


def table_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<call>", "<end>"])
    return made


@pytest.mark.parametrize("shown", [(), ("<call>",)])
def test_shown_special_tokens(shown):
    """What is shown comes with the text around it; other special tokens are skipped as before."""
    window, table = window_tokenizer(), table_tokenizer()
    keep = [frozenset(t.token_to_id(text) for text in shown) for t in (window, table)]
    detokenizers = [
        (window, WindowDetokenizer(window, [], skip_special=True, shown=keep[0])),
        (table, TableDetokenizer(token_table(table), skip_special=True, shown=keep[1])),
    ]
    for tokenizer, detokenizer in detokenizers:
        ids = tokenizer.encode("hello<call>world<end>").ids
        text = "".join(detokenizer.push([i]) for i in ids) + detokenizer.flush()
        assert text.replace(" ", "") == f"hello{''.join(shown)}world"


def test_quiet_tokens_hold_nothing_notable():
    """A token passes by a reader only if it holds no character that its notation begins with, and ends in no space."""
    tokenizer = table_tokenizer()
    table = token_table(tokenizer)
    quiet = table.quiet(frozenset("<["))
    loud = {i for i, piece in enumerate(quiet) if piece is None and table.escaped[i]}
    assert {table.pieces[i] for i in loud} == {
        b"<",
        b"[",
        b" ",
        b"\n",
        b"\t",
        b"\r",
        b"\x0b",
        b"\x0c",
        b"\x1c",
        b"\x1d",
        b"\x1e",
        b"\x1f",
    }
    assert table.quiet(frozenset()).count(None) == quiet.count(None) - 2
