"""Where the data of one input of an infer request is: in the JSON, behind it, or in shared memory.

Source: server/src/http_server.cc, ParseJsonTritonIO, 2.73, in whose order things are looked at.
"""

from typing import Any

from tritium.compat.datatypes import BY_NAME
from tritium.compat.v2 import members
from tritium.compat.v2.elements import from_json
from tritium.compat.v2.refusal import Refusal, member, unparsable
from tritium.compat.v2.regions import SHARED_MEMORY, View

_SOURCES = "'data', 'binary_data_size' in 'parameters', 'shared_memory_region' in 'parameters'"
_MOST = (1 << 63) - 1
_UNKNOWN_DIMENSION = -1


def check(entry: dict[str, Any]) -> None:
    """Refuse an input that brings its data in no way, or in more than one.

    Raises:
        Refusal: in Triton's words.
    """
    given = ["'data'"] if "data" in entry else []
    parameters = entry.get("parameters")
    if type(parameters) is dict:
        given += [f"'{key}'" for key in ("binary_data_size", SHARED_MEMORY) if key in parameters]
    if len(given) != 1:
        found = f"set {' '.join(given)}" if given else "no field is set"
        raise Refusal(f"Input must set only one of the following fields: {_SOURCES}. But {found}")


def shape_of(entry: dict[str, Any]) -> tuple[int, ...]:
    """Read a shape; a dimension beyond 63 bits comes out negative, as it does where 64 bits hold a signed number.

    Raises:
        Refusal: in Triton's words.
    """
    dims = [members.unsigned("shape", dim) for dim in members.array(entry, "shape")]
    return tuple(dim if dim <= _MOST else dim - (1 << 64) for dim in dims)


def in_json(name: str, datatype: str, shape: tuple[int, ...], data: Any, most: int) -> bytes:
    """Turn the `data` of an input into binary form, of `most` bytes (0: any number).

    Raises:
        Refusal: in Triton's words.
    """
    count = _count(name, shape)
    if count == 0:
        return b""
    if type(data) is not list:
        raise member("data", members.ARRAY)
    kind = BY_NAME.get(datatype)
    size = kind.size_bytes if kind is not None else 0
    if size and count * size > _MOST:
        raise Refusal(
            f"byte size overflow for input '{name}': element count ({count}) * data type size ({size}) "
            f"exceeds maximum allowed size ({_MOST})"
        )
    _check_size(name, count * size & members.MOST_UNSIGNED, most)
    if kind is None:
        raise Refusal(f"invalid datatype for input {name}")
    raw, given = from_json(name, datatype, data)
    if not size:
        _check_size(name, len(raw), most)
    # How many strings there are is checked with the model's other sizes, as in Triton.
    elif given > count:
        raise member("data", "Shape does not match true shape of 'data' field")
    elif given < count:
        raise unparsable("Failed to parse 'data' field: shape does not match true shape")
    return raw


def _count(name: str, shape: tuple[int, ...]) -> int:
    """Count elements as Triton does, which stops at the first dimension that decides."""
    count = 1
    for dim in shape:
        if dim == _UNKNOWN_DIMENSION:
            return _UNKNOWN_DIMENSION
        dims = ",".join(map(str, shape))
        if dim < 0:
            raise Refusal(f"invalid shape for input '{name}': shape [{dims}] contains one or more invalid dimensions")
        if dim == 0:
            return 0
        count *= dim
        if count > _MOST:
            raise Refusal(
                f"invalid shape for input '{name}': shape [{dims}] causes total element count "
                f"to exceed maximum size of {_MOST}"
            )
    return count if shape else 0


def _check_size(name: str, size: int, most: int) -> None:
    if most and size > most:
        raise Refusal(
            f"JSON input '{name}' has a byte_size ({size} bytes) that exceeds the maximum allowed value "
            f"of {most} bytes. Use --http-max-input-size to increase the limit."
        )


def in_memory(parameters: dict[str, Any], region: View) -> memoryview:
    """Find the shared memory that a tensor's parameters name.

    Raises:
        Refusal: in Triton's words.
    """
    name = members.text(parameters, SHARED_MEMORY)
    offset, size = (
        members.unsigned(key, parameters.get(key, 0)) for key in ("shared_memory_offset", "shared_memory_byte_size")
    )
    return region(name, offset, size)


def binary_size(parameters: dict[str, Any]) -> int:
    """Return how many bytes of the body are the tensor.

    Raises:
        Refusal: in Triton's words.
    """
    return members.unsigned("binary_data_size", parameters["binary_data_size"])
