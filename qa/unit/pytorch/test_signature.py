"""The names of an archive's arguments and results."""

import json

import pytest

from tritium.backends.pytorch.signature import BadSpecification, input_places, output_places

LEAF: dict[str, object] = {"type": None, "context": None, "children_spec": []}


def node(kind: str, *children: object, keys: list[str] | None = None) -> dict[str, object]:
    context = "null" if keys is None else json.dumps(keys)
    return {"type": f"builtins.{kind}", "context": context, "children_spec": children}


def text(root: object) -> str:
    return json.dumps([1, root])


def test_inputs_have_a_path_and_a_number() -> None:
    """Tuples are counted, dictionaries go by key, keyword arguments by name; numbers follow the order of the leaves."""
    options = node("dict", LEAF, LEAF, keys=["k1", "k2"])
    arguments = node("tuple", LEAF, options)
    places = input_places(text(node("tuple", arguments, node("dict", LEAF, keys=["mask"]))))
    paths = {"ARGS[0]": 0, "ARGS[1][k1]": 1, "ARGS[1][k2]": 2, "KWARGS[mask]": 3}
    assert places == paths | {f"INPUT__{n}": n for n in range(4)}


def test_results_have_a_path_and_a_number() -> None:
    """A single tensor is RESULT; what is nested goes by its path."""
    assert output_places(text(LEAF)) == {"RESULT": 0, "OUTPUT__0": 0}
    nested = node("dict", LEAF, node("list", LEAF, LEAF), keys=["a", "b"])
    paths = {"RESULT[a]": 0, "RESULT[b][0]": 1, "RESULT[b][1]": 2}
    assert output_places(text(nested)) == paths | {f"OUTPUT__{n}": n for n in range(3)}


@pytest.mark.parametrize("wrong", ["{", "[1]", text(node("set", LEAF)), text(node("dict", LEAF, keys=[]))])
def test_what_torch_does_not_write_is_refused(wrong: str) -> None:
    """Broken JSON, an unknown container and keys that do not match are told."""
    with pytest.raises(BadSpecification):
        output_places(wrong)
