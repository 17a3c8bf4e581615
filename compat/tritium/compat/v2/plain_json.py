"""The infer body that nearly all clients send, in a third of the time: msgspec checks the types while it parses.

Plain is a body of numbers in flat arrays, in binary tensors or in shared memory, without parameters that only some
models know. Of whatever is not plain, or not right, nothing is said here: it is read once more by `infer_request`,
which knows all forms and Triton's words for what is wrong with them.
"""

import math
from array import array
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from tritium.compat.datatypes import BY_NAME
from tritium.compat.v2.call import InferCall, OutputRequest
from tritium.compat.v2.elements import CODES, Buffer
from tritium.compat.v2.layout import LONGEST_BYTES, Layout, Layouts, Place
from tritium.compat.v2.plain_document import UNSET, Document, OutputForm, Source, parse
from tritium.compat.v2.regions import View, no_memory

T = TypeVar("T")

_MOST_SIGNED = (1 << 63) - 1
_LAYOUTS: Final = Layouts()


def decode(
    body: memoryview,
    json_size: int,
    tensor: Callable[[str, str, tuple[int, ...], Buffer], T],
    most: int = 0,
    region: View = no_memory,
) -> InferCall[T] | None:
    """Read a body whose first `json_size` bytes are JSON; None where it is not plain.

    A tensor in the JSON of more than `most` bytes (0: any number) is not.

    Raises:
        Refusal: all is plain up to a region that `region` does not find, or not as large.
    """
    end = len(body)
    text = bytes(body[:json_size]) if json_size < end and json_size <= LONGEST_BYTES else b""
    if text and (layout := _LAYOUTS.find(text)) is not None:
        return layout.read(body, json_size, tensor)
    try:
        document = parse(body if json_size == end else body[:json_size])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    inputs: list[T] = []
    at = json_size
    for entry in document.inputs:
        datatype, shape, numbers, source = entry.datatype, entry.shape, entry.data, entry.parameters
        if source is UNSET:
            code = CODES.get(datatype)
            if code is None or numbers is UNSET or len(numbers) != math.prod(shape):
                return None
            try:
                data: Buffer = array(code, numbers).tobytes()
            except (OverflowError, TypeError, ValueError):
                return None
            if most and len(data) > most:
                return None
        elif source.shared_memory_region is not UNSET:
            if numbers is not UNSET or source.binary_data_size is not UNSET or not _in_range(source, shape):
                return None
            data = region(
                source.shared_memory_region, source.shared_memory_offset, source.shared_memory_byte_size
            ).toreadonly()
        elif source.binary_data_size is UNSET:
            return None
        else:
            start, at = at, at + source.binary_data_size
            if numbers is not UNSET or at > end or datatype not in BY_NAME or math.prod(shape) > end:
                return None
            data = body[start:at]
        inputs.append(tensor(entry.name, datatype, shape, data))
    if at != end:
        return None
    binary = document.parameters is not UNSET and document.parameters.binary_data_output
    outputs = []
    for wish in document.outputs:
        form = wish.parameters
        if form is UNSET or form.shared_memory_region is UNSET:
            outputs.append(OutputRequest(wish.name, form is not UNSET and form.binary_data))
        elif form.binary_data or not _in_range(form):
            return None
        else:
            memory = region(form.shared_memory_region, form.shared_memory_offset, form.shared_memory_byte_size)
            outputs.append(OutputRequest(wish.name, memory=memory))
    if text and not document.id and _all_binary(document):
        _LAYOUTS.remember(text, _layout(document, outputs, binary_output=binary))
    return InferCall(document.id, inputs, list(outputs), binary_output=binary)


def _all_binary(document: Document) -> bool:
    """Tell whether nothing is in the JSON itself or in shared memory."""
    for entry in document.inputs:
        if entry.parameters is UNSET or entry.parameters.binary_data_size is UNSET:
            return False
    for wish in document.outputs:
        if wish.parameters is not UNSET and wish.parameters.shared_memory_region is not UNSET:
            return False
    return True


def _layout(document: Document, outputs: list[OutputRequest], *, binary_output: bool) -> Layout:
    places = [
        Place(entry.name, entry.datatype, entry.shape, entry.parameters.binary_data_size)
        for entry in document.inputs
        if entry.parameters is not UNSET and entry.parameters.binary_data_size is not UNSET
    ]
    return Layout(places, outputs, binary_output=binary_output)


def _in_range(place: Source | OutputForm, shape: tuple[int, ...] = ()) -> bool:
    """Tell whether no number of a tensor in shared memory is one that Triton's 64 bits read otherwise."""
    return max(place.shared_memory_byte_size, place.shared_memory_offset, *shape) <= _MOST_SIGNED
