"""What each family's reader makes of what its models write, however the text is cut."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

from tritium.llm.reading.table import REASONING_PARSERS, TOOL_PARSERS

HERE = Path(__file__).parent
SCRIPTS = sorted((HERE / "scripts").glob("*.txt"))


def _script_module():
    name = "reader_scripts"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / "script.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


script = _script_module()
CASES = [(path.stem, case) for path in SCRIPTS for case in script.read_script(path)]
each_case = pytest.mark.parametrize(
    "case", [case for _, case in CASES], ids=[f"{family}: {case.title}" for family, case in CASES]
)


@each_case
def test_whole(case):
    """The text in one piece is read as the script says."""
    assert script.run(case, []).lines == case.expected


@each_case
def test_cut_in_two_at_every_place(case):
    """Wherever the text is cut in two, the same is read."""
    for cut in range(1, len(case.text)):
        assert script.run(case, [cut]).lines == case.expected, repr(case.text[:cut])


@each_case
def test_character_by_character(case):
    """A text that comes a character at a time is read the same."""
    assert script.run(case, list(range(1, len(case.text)))).lines == case.expected


@each_case
def test_random_cuts(case):
    """Cut at random places, as tokens cut it, the text is read the same."""
    chance = random.Random(case.title)
    for _ in range(30):
        places = range(1, len(case.text))
        cuts = sorted(chance.sample(places, min(len(places), chance.randint(1, 12))))
        assert script.run(case, cuts).lines == case.expected, cuts


@each_case
def test_cut_short_loses_nothing_and_keeps_the_rules(case):
    """Ended at any place, as by max_tokens, the reader still ends, and whole calls before the place stay whole."""
    for end in range(len(case.text)):
        short = script.replace(case, text=case.text[:end])
        said = script.run(short, []).lines
        assert said == script.run(short, list(range(1, end))).lines
        calls = [line for line in said if line.startswith("call ")]
        whole = [line for line in case.expected if line.startswith("call ")]
        assert calls[:-1] == whole[: max(len(calls) - 1, 0)] or "malformed" in case.title, case.text[:end]


def test_every_parser_has_a_script():
    """No notation goes without a script."""
    assert {case.formats.tool for _, case in CASES} >= set(TOOL_PARSERS)
    assert {case.formats.reasoning for _, case in CASES} >= set(REASONING_PARSERS)
