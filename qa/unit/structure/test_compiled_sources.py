"""What docs/decisions/005 asks of modules that are compiled, as far as the compiler itself does not say it."""

import ast
import itertools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_WAITS = (ast.Await, ast.Yield, ast.YieldFrom, ast.AsyncWith, ast.AsyncFor)


def _named(pattern: str) -> list[str]:
    """Return the paths that `before{a,b}after` stands for."""
    match = re.fullmatch(r"(.*)\{(.*)\}(.*)", pattern)
    return [f"{match[1]}{name}{match[3]}" for name in match[2].split(",")] if match else [pattern]


def _compiled() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["compile"]
    return list(itertools.chain.from_iterable(map(_named, patterns)))


def waits_in_handlers(source: str) -> list[int]:
    """Return the lines on which a coroutine is suspended within `except` or `finally`."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Try):
            handling = [*itertools.chain.from_iterable(h.body for h in node.handlers), *node.finalbody]
            lines += [x.lineno for statement in handling for x in ast.walk(statement) if isinstance(x, _WAITS)]
    return lines


@pytest.mark.parametrize("path", _compiled())
def test_nothing_is_awaited_while_an_exception_is_handled(path: str) -> None:
    """Compiled, the exception would be left to the thread."""
    assert waits_in_handlers((ROOT / path).read_text()) == []


def test_awaiting_in_a_handler_is_found() -> None:
    """In except and in finally, by whatever suspends."""
    source = """
async def f(x):
    try:
        await x
    except ValueError:
        await x
    finally:
        async with x:
            pass
"""
    assert waits_in_handlers(source) == [6, 8]
