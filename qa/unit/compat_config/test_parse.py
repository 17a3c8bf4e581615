"""Reading config.pbtxt: the same messages as protobuf's parser, and every problem where it is."""

import os
import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st

from tritium.compat.config.parse import parse_file, parse_text
from tritium.compat.config.problem import render
from tritium.compat.protobufs import model_config_pb2

CONFIG = model_config_pb2.ModelConfig
SIGNED, UNSIGNED = st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)


def protobuf(text):
    """Parse with protobuf itself, or return None where it refuses."""
    try:
        return text_format.Parse(text, CONFIG())
    except (text_format.ParseError, UnicodeDecodeError, RecursionError):
        return None


@st.composite
def messages(draw):
    """Draw a configuration message with any fields set."""
    return fill(draw, CONFIG(), 0)


def fill(draw, message, depth):
    if not message.DESCRIPTOR.fields:
        message.SetInParent()
        return message
    fields = draw(st.lists(st.sampled_from(list(message.DESCRIPTOR.fields)), max_size=4, unique_by=lambda f: f.name))
    for field in fields:
        if field.message_type is not None and depth > 3:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key = (
                draw(st.text(max_size=5)) if field.message_type.fields_by_name["key"].cpp_type == 9 else draw(UNSIGNED)
            )
            if field.message_type.fields_by_name["value"].message_type is None:
                getattr(message, field.name)[key] = draw(st.text(max_size=8))
            else:
                fill(draw, getattr(message, field.name)[key], depth + 1)
        elif field.message_type is not None:
            child = getattr(message, field.name)
            fill(draw, child.add() if field.is_repeated else child, depth + 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(scalar(field), max_size=3)))
        else:
            setattr(message, field.name, draw(scalar(field)))
    return message


def scalar(field):
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return {
        field.CPPTYPE_INT32: SIGNED,
        field.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        field.CPPTYPE_UINT32: UNSIGNED,
        field.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
        field.CPPTYPE_DOUBLE: st.floats(allow_nan=False),
        field.CPPTYPE_FLOAT: st.floats(width=32, allow_nan=False),
        field.CPPTYPE_BOOL: st.booleans(),
        field.CPPTYPE_STRING: st.text(max_size=8),
    }[field.cpp_type]


@given(messages())
def test_reads_what_protobuf_writes(message):
    """Any message printed by protobuf is read back equal, without a problem."""
    text = text_format.MessageToString(message)
    parsed = parse_text(text, "f")
    assert parsed.problems == []
    assert parsed.message == message


# Python's protobuf takes Unicode's white space and ASCII's separators for white space; C++'s, which Triton reads with,
# does not.
SPACES_OF_PYTHON = [chr(c) for c in (*range(0x1C, 0x20), *range(0x80, 0x3001)) if chr(c).isspace()]
ANY_TEXT = st.text(st.characters(exclude_characters=SPACES_OF_PYTHON))


@given(st.one_of(ANY_TEXT, st.lists(st.sampled_from(
    ["name", "input", "dims", "data_type", "parameters", "key", "value", "max_batch_size", ":", " ", "\n", "{", "}",
     "[", "]", "<", ">", ",", ";", "-", "1", "TYPE_FP32", '"s"', "true", "#c\n", "${x}"])).map("".join)))  # fmt: skip
@example('input [{name: "a"}, {name: "b"}]')
@example('input<name:"a">')
@example("max_batch_size: - 1")
@example("name: 'a' \"b\"")
def test_any_text_is_read_or_refused_as_protobuf_does(text):
    """Nothing crashes; what protobuf takes gives the same message, and what has no problem protobuf takes."""
    parsed = parse_text(text, "f")
    expected = protobuf(text)
    if expected is not None:
        assert (render(parsed.problems), parsed.message) == ("", expected)
    elif not parsed.problems:
        # protobuf in C++, which Triton uses, takes a sign that stands apart; protobuf in Python does not.
        assert re.search(r"-\s", text), f"accepted what protobuf refuses: {text!r}"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("max_batch_sise: 64", ['1:1 unknown field "max_batch_sise" | did you mean max_batch_size?']),
        ("count: 2", ['1:1 unknown field "count" | count belongs in instance_group or model_warmup']),
        ("Name: 'a'", ['1:1 unknown field "Name" | did you mean name?']),
        ("input [ { dim: [ 1 ] } ]", ['1:11 unknown field "dim" | did you mean dims?']),
        ("max_batch_size: '8'", ["1:17 max_batch_size takes a whole number, not '8' | delete the quotes"]),
        ("max_batch_size: 8.5", ["1:17 max_batch_size takes a whole number, not 8.5"]),
        ("max_batch_size: 4GB", ["1:17 max_batch_size takes a whole number, not 4GB"]),
        (
            "max_batch_size: 3000000000",
            ["1:17 max_batch_size does not hold 3000000000 | it takes -2147483648 to 2147483647"],
        ),
        ("max_batch_size: [ 8 ]", ["1:17 max_batch_size takes one value, not a list | delete the brackets"]),
        ("max_batch_size { }", ['1:1 missing ":" after max_batch_size | write max_batch_size: VALUE',
                                "1:16 max_batch_size takes a plain value, not a block | write max_batch_size: VALUE"]),
        ("max_batch_size 8", ['1:1 missing ":" after max_batch_size | write max_batch_size: VALUE']),
        ("count: MAX", ['1:1 unknown field "count" | count belongs in instance_group or model_warmup']),
        ("max_batch_size: N", [
            "1:17 max_batch_size takes a whole number, not N | N looks like a placeholder that was never filled in"]),
        ("max_batch_size: ${mbs}", ["1:17 unfilled template value ${mbs} | fill in mbs: this file is a template"]),
        ("${batching}", ["1:1 unfilled template value ${batching} | fill in batching: this file is a template"]),
        ("name: model", ['1:7 name takes a string, not model | write "model" in quotes']),
        ("name: 'a", ["1:7 this string is never closed | end it with ' on the same line"]),
        ("name: '\\q'", ["1:7 unknown escape \\q in this string | write \\\\q for a backslash"]),
        ("name: '\\xff'", ["1:7 name is not UTF-8 text"]),
        ("name:\nbackend: 'b'", ["1:1 name has no value | write name: VALUE, or delete the line"]),
        ("name: 'a'\nname: 'b'", ["2:1 name is given twice | line 1 has the first; delete one"]),
        (
            "dynamic_batching {}\nsequence_batching {}",
            ["2:1 sequence_batching cannot stand beside dynamic_batching | line 1 has dynamic_batching; keep one"],
        ),
        ("model_transaction_policy { decoupled: yes }", [
            "1:39 decoupled takes true or false, not yes | write true or false"]),
        ("model_transaction_policy { decoupled: 'true' }", [
            "1:39 decoupled takes true or false, not 'true' | write true or false, without quotes"]),
        ("input { data_type: TYPE_FLOAT }", ["1:20 data_type has no value TYPE_FLOAT | did you mean TYPE_FP32?"]),
        ("input { data_type: INT32 }", ["1:20 data_type has no value INT32 | did you mean TYPE_INT32?"]),
        ("input { data_type: 'TYPE_FP32' }", [
            "1:20 data_type takes a name, not a string | write TYPE_FP32 without quotes"]),
        ("input { data_type: STRNG }", ["1:20 data_type has no value STRNG | did you mean TYPE_STRING?"]),
        ("input: 3", ["1:8 input takes a block, not 3 | write input { name ... }"]),
        ("input [ [ {} ] ]", ["1:9 input is a list within a list | delete the inner brackets"]),
        ("input [ { name: 'a' }, ]", ['1:22 a list may not end with "," | delete the comma']),
        ("input [ {} {} ]", ['1:12 expected "," or "]" before "{"']),
        ("input [ {", ['1:9 "{" is never closed | the file ends where "}" is due']),
        ("input [ { name: 'a' ]\nname: 'm'", ['1:9 "{" is never closed | line 1 has "]" where "}" is due']),
        ("dynamic_batching { ] }", ['1:20 "]" closes nothing here | "}" is due']),
        ("} name: 'a'", ["1:1 nothing is open that this would close | delete it, or open its bracket"]),
        ("name: 'a',, backend: 'b'", ['1:11 stray "," | delete it']),
        ("= 3\nname: 'a'", ['1:1 expected the name of a field, got "="']),
        ("optimization { graph { level: one } } max_batch_size: x", [
            "1:31 level takes a whole number, not one", "1:55 max_batch_size takes a whole number, not x"]),
    ],
)  # fmt: skip
def test_problem_is_said_where_it_is(text, places):
    """Each mistake is reported once, at its place, with what to do about it."""
    found = parse_text(text, "f").problems
    assert [f"{p.line}:{p.column} {p.message}" + (f" | {p.hint}" if p.hint else "") for p in found] == places


def test_reading_goes_on_after_a_problem():
    """Fields after a mistake are read, so that all mistakes of a file are found at once."""
    parsed = parse_text("nonsense { a: 1 }\nname: 'm'\ninput [ { name: 'x', dims: [ 1, 2 }, { name: 'y' } ]", "f")
    assert parsed.message.name == "m"
    assert [i.name for i in parsed.message.input] == ["x", "y"]
    assert len(parsed.problems) == 2


def test_an_unclosed_block_does_not_make_its_neighbours_unknown():
    """One missing brace is one problem, though every later field then stands in the wrong block."""
    found = parse_text("dynamic_batching {\nmax_batch_size: 8\nbackend: 'python'\n", "f").problems
    assert [p.message for p in found] == ['"{" is never closed']


def test_windows_and_editors(tmp_path):
    """A byte order mark and CRLF lines are no problem; UTF-16 and Latin-1 are said to be that."""
    file = tmp_path / "config.pbtxt"
    file.write_bytes(b"\xef\xbb\xbfname: 'm'\r\nnam: 1\r\n")
    parsed = parse_file(file, "f")
    assert parsed.message.name == "m"
    assert render(parsed.problems) == 'f:2:1  unknown field "nam"\n    2 | nam: 1\n      | ^^^ did you mean name?'
    file.write_bytes("name: 'm'".encode("utf-16"))
    assert render(parse_file(file, "f").problems) == "f  is UTF-16 text      hint: save it as UTF-8"
    file.write_bytes(b"name: 'm'\n# caf\xe9\n")
    assert render(parse_file(file, "f").problems) == (
        "f  is not UTF-8 text: byte 0xe9 in line 2      hint: save it as UTF-8"
    )
    assert render(parse_file(tmp_path / "none", "f").problems) == "f  cannot be read: No such file or directory"


def test_a_symbolic_link_that_became_text(tmp_path):
    """Checked out where links are switched off, or downloaded as an archive, it holds the path that it led to."""
    file = tmp_path / "config.pbtxt"
    file.write_text("../../streaming/decoder/config.pbtxt")
    assert render(parse_file(file, "f").problems) == (
        "f:1:1  the whole file is ../../streaming/decoder/config.pbtxt: a symbolic link that became a file of text\n"
        "    1 | ../../streaming/decoder/config.pbtxt\n"
        "      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ put the file there that it names"
    )


def test_deep_nesting_is_a_problem_not_a_crash():
    """A file of a hundred thousand open brackets is refused."""
    found = parse_text("optimization " + "{ graph " * 100_000, "f").problems
    assert "nested deeper than 60 levels" in [p.message for p in found]


def test_corpus():
    """Real configurations are read as protobuf reads them, and what it refuses is refused with a reason."""
    corpus = os.environ.get("TRITIUM_CORPUS")
    if not corpus:
        pytest.skip("TRITIUM_CORPUS names no folder with a `configs` folder of config.pbtxt files")
    files = sorted(Path(corpus).glob("**/configs/*.pbtxt"))
    assert files
    for file in files:
        parsed = parse_file(file)
        expected = protobuf(file.read_text(encoding="utf-8-sig"))
        if expected is None:
            assert parsed.problems, file.name
            assert all(p.message and (p.line == 0 or p.source_line) for p in parsed.problems), file.name
        else:
            assert (render(parsed.problems), parsed.message) == ("", expected), file.name
