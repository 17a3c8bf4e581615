"""The routing decisions, told as scripts in qa/golden/routing."""

from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "golden" / "routing").glob("*.txt"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script(script, desk, cases):
    """Every command of the script prints what the script says."""
    ran = 0
    for case in cases(script):
        actual = desk.run(case.command)
        assert case.expected == actual, f"{script.name}:{case.line}: {case.command}"
        ran += 1
    assert ran > 3
