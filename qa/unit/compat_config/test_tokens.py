"""The tokenizer: every text has tokens, and every token knows its place."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from tritium.compat.config.tokens import Kind, Source

PIECES = st.sampled_from(
    ["name", "max_batch_size", ":", " ", "\n", "\r\n", "\t", "{", "}", "[", "]", "<", ">", ",", ";", "-", "1",
     "0x1f", "1.5e3f", "TYPE_FP32", '"text"', "'it''s'", '"open', "# comment\n", "${x}", "{{ y }}",
     "@@z@@", "4abc", "\\", "ü", "\0"]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(PIECES).map("".join))


@given(TEXTS)
@example("dims: [ 4 # ] \n")
@example('"a\\\n"')
def test_tokens_cover_the_text(text):
    """Tokens are slices of the text in order, and between them there is only space and comment."""
    source = Source("f", text)
    at = 0
    for token in source.tokens():
        assert token.start >= at
        assert text[token.start : token.end] == token.text
        assert re.fullmatch(r"(\s|#[^\n]*)*", text[at : token.start], re.ASCII)
        at = token.end
    assert at == len(text)


@given(TEXTS)
def test_line_and_column_lead_back_to_the_token(text):
    """A problem's line, column and source line name the characters of its token."""
    source = Source("f", text)
    lines = text.split("\n")
    for token in source.tokens():
        problem = source.problem(token, "m")
        assert lines[problem.line - 1].rstrip("\r") == problem.source_line
        first = token.text.split("\n")[0].rstrip("\r")
        assert problem.source_line[problem.column - 1 :].startswith(first)


def kinds(text):
    return [(token.kind, token.text) for token in Source("f", text).tokens()][:-1]


def test_kinds():
    """Numbers, names, strings, symbols and placeholders are told apart."""
    assert kinds("a_1: -0x1F .5 1.0f") == [
        (Kind.NAME, "a_1"), (Kind.SYMBOL, ":"), (Kind.SYMBOL, "-"), (Kind.NUMBER, "0x1F"), (Kind.NUMBER, ".5"),
        (Kind.NUMBER, "1.0f"),
    ]  # fmt: skip
    assert kinds("'a\\'b' \"c") == [(Kind.STRING, "'a\\'b'"), (Kind.UNTERMINATED, '"c')]
    assert kinds("${size} {{ n }} @@q@@") == [
        (Kind.TEMPLATE, "${size}"), (Kind.TEMPLATE, "{{ n }}"), (Kind.TEMPLATE, "@@q@@"),
    ]  # fmt: skip


def test_number_that_runs_into_letters_is_one_unknown_token():
    """`4GB` is reported as a whole, not as a number and a name."""
    assert kinds("4GB 1.2.3") == [(Kind.UNKNOWN, "4GB"), (Kind.UNKNOWN, "1.2.3")]
