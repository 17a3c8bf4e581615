"""The rules of implicit state: how a state may start out.

Source: GenerateInitialStateData in core/src/sequence_batch_scheduler/sequence_batch_scheduler.cc and Initialize in
core/src/sequence_state.cc.
"""

from collections.abc import Iterator
from typing import Any

from tritium.compat.config.finding import Finding, Path
from tritium.compat.config.problem import Stage

FOLDER = "initial_state"
"""Where in a model's folder the files lie that `data_file` names."""


def check_states(config: Any) -> Iterator[Finding]:
    """Find what is wrong with the `state` fields of `sequence_batching`."""
    begun: set[str] = set()
    for index, state in enumerate(config.sequence_batching.state):
        where: Path = ("sequence_batching", "state", index)
        name = state.input_name
        found = len(state.initial_state)
        if state.use_growable_memory and not state.use_same_buffer_for_input_output:
            yield _finding(
                (*where, "use_growable_memory"),
                "In order to 'use_growable_memory', you must also enable 'use_single_buffer' for state input name "
                f"'{name}'.",
                "set use_same_buffer_for_input_output",
            )
        if found > 1:
            yield _finding(
                (*where, "initial_state", 1),
                f"initial_state field for state input '{name}' must contain exactly one or zero element. "
                f"Found '{found}' elements.",
            )
        elif found:
            at = (*where, "initial_state", 0)
            yield from _check_initial(state, state.initial_state[0], at, twice=name in begun)
            begun.add(name)


def _check_initial(state: Any, initial: Any, at: Path, *, twice: bool) -> Iterator[Finding]:
    name = state.input_name
    if initial.data_type != state.data_type:
        message = f"The data type used for 'initial_state' field of state '{name}' does not match the state data type."
        yield _finding((*at, "data_type"), message)
    if not initial.name:
        yield _finding(at, f"Field 'name' must be set when using initial_state for state input '{name}'.")
    if twice:
        yield _finding(at, f"State input name '{name}' specified more than once.")
    if len(initial.dims) != len(state.dims):
        yield _finding(
            (*at, "dims"),
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state input "
            f"'{name}'. {len(initial.dims)} != {len(state.dims)}",
        )
        return
    for dim, wanted in zip(initial.dims, state.dims, strict=True):
        if dim == -1:
            message = f"'initial_state' field for state input name '{name}' contains variable dimensions."
            yield _finding((*at, "dims"), message)
        elif wanted not in (-1, dim):
            yield _finding(
                (*at, "dims"),
                f"'initial_state' dim for input name '{name}' doesn't match 'state' dim description. {dim} != {wanted}",
            )
    if initial.WhichOneof("state_data") is None:
        message = f"initial_state setting expects state'{name}' to have state_data set"
        yield _finding(at, message, "zero_data: true, or data_file with the name of a file in initial_state/")


def _finding(where: Path, message: str, hint: str = "") -> Finding:
    return Finding(where, message, hint, Stage.LOAD)
