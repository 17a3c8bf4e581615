"""Which argument of a model an input is, and which result an output is, told by their names.

Inputs: all named as the arguments of `forward`; else all `<name>__<index>`; else in the order of the configuration.
Outputs: all `<name>__<index>`; else in order. Rules and words: GetNamingConvention of pytorch_backend.
"""

from collections.abc import Mapping, Sequence
from enum import Enum

from tritium.backends.hosted.configured import Configured, Refused
from tritium.compat.pb_utils import TritonError

_DELIMITER = "__"


class Convention(Enum):
    """How names tell places."""

    ARGUMENT = "names of forward's arguments"
    INDEX = "<name>__<index>"
    ORDER = "order of the configuration"


def place_inputs(model: Configured, arguments: Sequence[str]) -> dict[str, int]:
    """Return the place of every input, control, state and batch input; `arguments` are forward's, without self.

    Raises:
        Refused: a name tells no place, or one that `forward` does not have or that is taken.
    """
    convention = _convention(list(model.inputs), arguments)
    if model.states_in and convention is not Convention.INDEX:
        raise Refused(
            f"PyTorch model '{model.name}' is using sequence batching with state but not all inputs and outputs "
            "follow the <name>__<index> naming convention. ",
            TritonError.INVALID_ARG,
        )
    places = {control.name: _control_place(control.name) for control in model.controls}
    for order, name in enumerate((*model.inputs, *model.batch_inputs)):
        match convention:
            case Convention.ARGUMENT:
                places[name] = arguments.index(name) if name in arguments else order
            case Convention.INDEX:
                places[name] = _index(name) if _index(name) is not None else order  # type: ignore[assignment]  # just seen
            case Convention.ORDER:
                places[name] = order
    places |= {state.name: _state_place(model, state.name) for state in model.states_in}
    _check_places(model, places, len(arguments))
    return places


def place_outputs(model: Configured) -> dict[str, int]:
    """Return the place of every output, and of every state, among the model's results.

    Raises:
        Refused: a state's name tells no place.
    """
    convention = _convention(list(model.outputs), ())
    places: dict[str, int] = {}
    for order, name in enumerate(model.outputs):
        index = _index(name)
        places[name] = order if convention is Convention.ORDER or index is None else index
    places |= {state.name: _state_place(model, state.name) for state in model.states_out}
    return places


def check_controls(model: Configured, datatypes: Mapping[str, object]) -> None:
    """Look at the tensors that the sequence batcher adds; `datatypes` are by their config names those that torch has.

    Raises:
        Refused: a name tells no place, or the datatype of a correlation id is none of torch's.
    """
    for control in model.controls:
        _control_place(control.name)
        if control.config_type not in datatypes:
            raise Refused(f"input '{control.name}' type '{control.config_type}' is not supported by PyTorch.")


def _convention(names: Sequence[str], arguments: Sequence[str]) -> Convention:
    if arguments and all(name in arguments for name in names):
        return Convention.ARGUMENT
    return Convention.INDEX if all(_index(name) is not None for name in names) else Convention.ORDER


def _index(name: str) -> int | None:
    """Return the number after the first `__`, None where there is none."""
    _, found, digits = name.partition(_DELIMITER)
    if not found or not (digits == "" or (digits.isascii() and digits.isdigit())):
        return None
    return int(digits or "0")


def _control_place(name: str) -> int:
    index = _index(name)
    if index is None:
        raise Refused(f"input '{name}' does not follow <name>__<index> naming convention.")
    return index


def _state_place(model: Configured, name: str) -> int:
    index = _index(name)
    if index is None:
        raise Refused(
            f"PyTorch model '{model.name}' is using sequence batching with state but state '{name}' does not follow "
            "the <name>__<index> naming convention. ",
            TritonError.INVALID_ARG,
        )
    return index


def _check_places(model: Configured, places: Mapping[str, int], count: int) -> None:
    """Refuse what Triton would write past the end of forward's arguments, or over another input."""
    by_place: dict[int, str] = {}
    for name, place in places.items():
        if place >= count:
            raise Refused(
                f"unable to load model '{model.name}', input '{name}' is argument {place} of forward, "
                f"which has {count} (counted from 0)",
                TritonError.INVALID_ARG,
            )
        if place in by_place:
            raise Refused(
                f"unable to load model '{model.name}', inputs '{by_place[place]}' and '{name}' are both "
                f"argument {place} of forward",
                TritonError.INVALID_ARG,
            )
        by_place[place] = name
