"""The JSON of a plain infer body, as msgspec reads it: types and fields are checked while it is parsed.

Apart from `plain_json`, which makes a call of it and is compiled; classes of msgspec's cannot be.
"""

from typing import Annotated

import msgspec

Size = Annotated[int, msgspec.Meta(ge=0)]
UNSET = msgspec.UNSET


class Source(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Where the data of an input is: behind the JSON, or in shared memory."""

    binary_data_size: Size | msgspec.UnsetType = UNSET
    shared_memory_region: str | msgspec.UnsetType = UNSET
    shared_memory_byte_size: Size = 0
    shared_memory_offset: Size = 0


class Input(msgspec.Struct, gc=False):
    """An input, with its numbers where they are in the JSON."""

    name: str
    datatype: str
    shape: tuple[Size, ...]
    data: list[int | float] | msgspec.UnsetType = UNSET
    parameters: Source | msgspec.UnsetType = UNSET


class OutputForm(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """How an output is to come."""

    binary_data: bool = False
    shared_memory_region: str | msgspec.UnsetType = UNSET
    shared_memory_byte_size: Size = 0
    shared_memory_offset: Size = 0


class Output(msgspec.Struct, gc=False):
    """An output that is asked for."""

    name: str
    parameters: OutputForm | msgspec.UnsetType = UNSET


class Wishes(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What is asked of all outputs."""

    binary_data_output: bool = False


class Document(msgspec.Struct, gc=False):
    """The whole body."""

    inputs: list[Input]
    id: str = ""
    outputs: list[Output] = []
    parameters: Wishes | msgspec.UnsetType = UNSET


parse = msgspec.json.Decoder(Document).decode
"""Reads the JSON; raises MsgspecError, UnicodeDecodeError or RecursionError where it is not plain."""
