"""The names of an AOTInductor archive's arguments and results, told by the call specification within it (pure).

A specification is torch's description of nested tuples, lists and dictionaries; the tensors are its leaves, in
order. Leaf 2 of the inputs is called INPUT__2, or by its path, as ARGS[2][key] or KWARGS[mask]; leaf 0 of the
results OUTPUT__0, or RESULT[key], or RESULT where there is only one. Source: pt2/call_spec.cc of pytorch_backend.
"""

import json
from collections.abc import Mapping
from typing import Any

_SEQUENCES = ("builtins.list", "builtins.tuple")
_DICTIONARY = "builtins.dict"


class BadSpecification(ValueError):
    """A call specification is not as torch writes it."""


def input_places(specification: str) -> dict[str, int]:
    """Return the place of every input under both of its names.

    Raises:
        BadSpecification: it cannot be read.
    """
    root = _root(specification)
    arguments, keywords = (*root.get("children_spec", []), {}, {})[:2]
    names = [f"ARGS{path}" for path in _paths(arguments)] if arguments else []
    names += [f"KWARGS{path}" for path in _paths(keywords)] if keywords else []
    return _places(names, "INPUT__")


def output_places(specification: str) -> dict[str, int]:
    """Return the place of every result under both of its names.

    Raises:
        BadSpecification: it cannot be read.
    """
    return _places([f"RESULT{path}" for path in _paths(_root(specification))], "OUTPUT__")


def _places(names: list[str], ordinal: str) -> dict[str, int]:
    by_path = {name: place for place, name in enumerate(names)}
    return by_path | {f"{ordinal}{place}": place for place in range(len(names))}


def _root(specification: str) -> Mapping[str, Any]:
    try:
        found = json.loads(specification)
    except json.JSONDecodeError as error:
        raise BadSpecification(str(error)) from None
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], dict):
        raise BadSpecification("expected [version, specification]")
    return found[1]


def _paths(node: Mapping[str, Any]) -> list[str]:
    """Return the path of every tensor below a node; that of a node which is itself a tensor is empty."""
    kind, children = node.get("type"), node.get("children_spec") or []
    if kind is None:
        return [""]
    if kind in _SEQUENCES:
        keys: list[Any] = list(range(len(children)))
    elif kind == _DICTIONARY:
        keys = _keys(node.get("context"))
    else:
        raise BadSpecification(f"'{kind}' is neither tensor, tuple, list nor dictionary")
    if len(keys) != len(children):
        raise BadSpecification(f"a dictionary of {len(children)} has {len(keys)} keys")
    return [f"[{key}]{rest}" for key, child in zip(keys, children, strict=True) for rest in _paths(child)]


def _keys(context: Any) -> list[Any]:
    found = json.loads(context) if isinstance(context, str) else context
    return found if isinstance(found, list) else []
