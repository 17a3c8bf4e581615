"""The page of differences and the cases that differ name each other: none is kept quiet, none is made up."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/triton-differences.md"


def test_every_difference_is_listed_with_its_case(recorded):
    """A case may answer otherwise than Triton only if the page has its name in a row that says why."""
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row[-2])}
    assert {case.name.partition("/")[2] for case in recorded if case.differs} == listed
