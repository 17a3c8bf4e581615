"""The files in which implicit states start out, read when a model is loaded."""

import math
from typing import Any

from tritium.backends.contract import ModelSource
from tritium.compat.config import messages
from tritium.compat.config.implicit_state import FOLDER
from tritium.compat.datatypes import BY_CONFIG_VALUE
from tritium.core.bytes_walk import walk_bytes
from tritium.core.errors import InvalidArgument


def initial_states(source: ModelSource) -> dict[str, bytes]:
    """Return the content of every state's file, by state input; states without one are not in it.

    Raises:
        InvalidArgument: a file is not there, not in the folder for them, too short, or holds other than strings.
    """
    states = source.config.proto.sequence_batching.state
    return {
        state.input_name: _content(source, initial)
        for state in states
        for initial in state.initial_state
        if initial.WhichOneof("state_data") == "data_file"
    }


def _content(source: ModelSource, initial: Any) -> bytes:
    folder = (source.folder / FOLDER).resolve()
    path = (folder / initial.data_file).resolve()
    if not path.is_relative_to(folder):
        raise InvalidArgument(f"initial_state data_file '{initial.data_file}' is not in {folder}")
    try:
        content: bytes = path.read_bytes()
    except OSError:
        raise InvalidArgument(messages.no_file(str(path))) from None
    kind = BY_CONFIG_VALUE[initial.data_type]
    elements = math.prod(initial.dims)
    if not kind.fixed:
        if not walk_bytes(content, elements).right:
            raise InvalidArgument(
                f"initial_state setting expects {elements} strings, but the data provided from {initial.data_file} "
                "is something else",
                hint="each string follows its length, as four little-endian bytes",
            )
        return content
    size = elements * kind.size_bytes
    if len(content) < size:
        raise InvalidArgument(
            f"initial_state setting expects {size} bytes, but the data provided from {initial.data_file} only has "
            f"{len(content)} bytes."
        )
    return content[:size]
