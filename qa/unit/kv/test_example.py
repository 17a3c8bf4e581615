"""The example of the documentation."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "kv-tiers.md"


def test_the_documented_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, but for the directory."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    exec(compile(found[1].replace("/tmp/kv", str(tmp_path)), str(PAGE), "exec"), {})
    told = capsys.readouterr().out.splitlines()
    assert told == ["[<Tier.HOST: 'host'>] 1", "True frozenset() True"]
