"""Taking a word out leaves a list or command line that is still well-formed, and the rest as it was."""

from pathlib import Path

import pytest

from tritium.migration.text.edit import rewrite
from tritium.migration.text.removal import without
from tritium.migration.text.source import Span, source_of


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('["a", "--gone", "b"]\n', '["a", "b"]\n'),
        ('["--gone", "b"]\n', '["b"]\n'),
        ('["a", "--gone"]\n', '["a"]\n'),
        ('[\n  "a",\n  "--gone",\n  "b",\n]\n', '[\n  "a",\n  "b",\n]\n'),
        ('[\n  "a",\n  "--gone"\n]\n', '[\n  "a"\n]\n'),
        ("- a\n- --gone\n- b\n", "- a\n- b\n"),
        ("- a\n- '--gone'\n", "- a\n"),
        ("run a \\\n  --gone \\\n  b\n", "run a \\\n  b\n"),
        ("run a \\\n  --gone\nnext\n", "run a\nnext\n"),
        ("run a --gone b\n", "run a b\n"),
        ("run a --gone\n", "run a\n"),
        ('args: ["sh", "-c", "run --gone b"]\n', 'args: ["sh", "-c", "run b"]\n'),
        ("run a \\\r\n  --gone\r\n", "run a\r\n"),
    ],
)
def test_a_word_goes_with_what_belongs_to_it(before: str, after: str) -> None:
    """Its quotation marks, comma, dash, continuation or line; the one before does not go on to nothing."""
    at = before.index("--gone")
    edit = without(source_of(Path("f"), before), Span(at, at + len("--gone")))
    assert rewrite(before, [edit]) == after
