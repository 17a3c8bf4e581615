"""Where a model runs: the parameter EXECUTION_MODE of its configuration.

    process     a process for each instance: what the model breaks is its own (the default)
    in_process  a thread of the server for each instance: no hop, and no protection either
    inline      the server's event loop itself: for models that take microseconds and never wait

docs/python-backend.md says what each costs, and what is lost.
"""

from enum import StrEnum

from tritium.backends.python.interpreter import ENVIRONMENT_PARAMETER
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument

PARAMETER = "EXECUTION_MODE"


class ExecutionMode(StrEnum):
    """The values of the parameter."""

    PROCESS = "process"
    IN_PROCESS = "in_process"
    INLINE = "inline"


def execution_mode(config: ModelConfig) -> ExecutionMode:
    """Return where the model asks to run.

    Raises:
        InvalidArgument: no such place, or one that cannot have the interpreter that the model asks for.
    """
    wanted = config.parameter(PARAMETER, ExecutionMode.PROCESS)
    try:
        mode = ExecutionMode(wanted)
    except ValueError:
        raise InvalidArgument(
            f"{PARAMETER} '{wanted}' of model '{config.name}' is unknown", hint=f"one of {', '.join(ExecutionMode)}"
        ) from None
    if mode is not ExecutionMode.PROCESS and config.parameter(ENVIRONMENT_PARAMETER):
        raise InvalidArgument(
            f"model '{config.name}' asks for {PARAMETER} '{mode}' and for an interpreter of its own "
            f"({ENVIRONMENT_PARAMETER})",
            hint="the server's process has one interpreter: take one of the two parameters out",
        )
    return mode
