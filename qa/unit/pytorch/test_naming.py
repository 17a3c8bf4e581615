"""Which argument an input is, and which result an output is, by their names."""

from dataclasses import replace
from pathlib import Path

import pytest

from tritium.backends.hosted.configured import Configured, Control, Port, Refused
from tritium.backends.pytorch.naming import check_controls, place_inputs, place_outputs
from tritium.compat.pb_utils import TritonError

BARE = Configured("m", Path(), "", "", "CPU", 0, 0, {}, {}, (), (), (), (), {}, {})


def port(name: str) -> Port:
    return Port(name, "FP32", (1,), "TYPE_FP32")


def with_inputs(*names: str, **others: object) -> Configured:
    return replace(BARE, inputs={name: port(name) for name in names}, **others)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("b", "a"), {"b": 1, "a": 0}),
        (("x__1", "y__0"), {"x__1": 1, "y__0": 0}),
        (("p", "q"), {"p": 0, "q": 1}),
        (("a", "x__0"), {"a": 0, "x__0": 1}),
        (("x__one", "x__0"), {"x__one": 0, "x__0": 1}),
        (("x__1__0", "y__0"), {"x__1__0": 0, "y__0": 1}),
    ],
    ids=["arguments", "index", "neither: order", "mixed: order", "no number: order", "first delimiter counts"],
)
def test_inputs_are_placed_by_the_first_rule_that_fits_all(names: tuple[str, ...], expected: dict[str, int]) -> None:
    """Names of forward's arguments, else indices, else the order of the configuration."""
    assert place_inputs(with_inputs(*names), ["a", "b"]) == expected


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("x__0", "x__7"), "input 'x__7' is argument 7 of forward, which has 2"),
        (("x__0", "y__0"), "inputs 'x__0' and 'y__0' are both argument 0 of forward"),
    ],
)
def test_places_that_cannot_be_are_refused(names: tuple[str, ...], said: str) -> None:
    """An index that forward does not have, or that two inputs claim, is told at load."""
    with pytest.raises(Refused, match=said) as refused:
        place_inputs(with_inputs(*names), ["a", "b"])
    assert refused.value.code == TritonError.INVALID_ARG


def test_outputs_are_placed_by_index_or_order() -> None:
    """All indices, or the order of the configuration."""
    outputs = replace(BARE, outputs={name: port(name) for name in ("o__1", "o__0")})
    assert place_outputs(outputs) == {"o__1": 1, "o__0": 0}
    assert place_outputs(replace(BARE, outputs={name: port(name) for name in ("o__1", "o")})) == {"o__1": 0, "o": 1}


def test_sequence_controls_need_an_index_and_a_datatype_of_torch() -> None:
    """Controls stand beside named arguments by their index; an unsigned correlation id cannot be had."""
    ready = Control("READY__1", "CONTROL_SEQUENCE_READY", "TYPE_INT32")
    assert place_inputs(with_inputs("a", controls=(ready,)), ["a", "b"]) == {"READY__1": 1, "a": 0}
    nameless = Control("READY", "CONTROL_SEQUENCE_READY", "TYPE_INT32")
    with pytest.raises(Refused, match="input 'READY' does not follow <name>__<index> naming convention"):
        place_inputs(with_inputs("a", controls=(nameless,)), ["a", "b"])
    unsigned = Control("CORRID__1", "CONTROL_SEQUENCE_CORRID", "TYPE_UINT32")
    with pytest.raises(Refused, match="input 'CORRID__1' type 'TYPE_UINT32' is not supported by PyTorch"):
        check_controls(with_inputs("a", controls=(unsigned,)), {"TYPE_INT32": object()})


def test_states_need_indices_everywhere() -> None:
    """A model with implicit state must name all its inputs, and both ends of the state, by index."""
    state = (port("S__1"),)
    assert place_inputs(with_inputs("x__0", states_in=state), ["a", "b"]) == {"x__0": 0, "S__1": 1}
    with pytest.raises(Refused, match="not all inputs and outputs follow the <name>__<index>"):
        place_inputs(with_inputs("a", states_in=state), ["a", "b"])
    with pytest.raises(Refused, match="state 'S' does not follow"):
        place_outputs(replace(BARE, outputs={"o__0": port("o__0")}, states_out=(port("S"),)))
