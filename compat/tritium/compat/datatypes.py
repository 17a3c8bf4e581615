"""The tensor datatypes of KServe v2 and of `config.pbtxt`, and how each lies in memory.

A tensor's canonical form everywhere in Tritium is its v2 binary form: row-major, little endian, BYTES as
4-byte little-endian length before each element, BF16 as its two raw bytes.
Source: KServe v2 "Binary Tensor Data Extension"; DataType in model_config.proto.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype under its three names, with its size in bytes (0: elements vary in size)."""

    name: str
    config_name: str
    config_value: int
    size_bytes: int
    numpy: np.dtype
    fixed: bool
    """Whether every element takes `size_bytes`."""


def _row(name: str, config_name: str, value: int, size_bytes: int, numpy: str) -> Datatype:
    return Datatype(name, config_name, value, size_bytes, np.dtype(numpy), fixed=size_bytes > 0)


DATATYPES: tuple[Datatype, ...] = (
    _row("BOOL", "TYPE_BOOL", 1, 1, "?"),
    _row("UINT8", "TYPE_UINT8", 2, 1, "u1"),
    _row("UINT16", "TYPE_UINT16", 3, 2, "<u2"),
    _row("UINT32", "TYPE_UINT32", 4, 4, "<u4"),
    _row("UINT64", "TYPE_UINT64", 5, 8, "<u8"),
    _row("INT8", "TYPE_INT8", 6, 1, "i1"),
    _row("INT16", "TYPE_INT16", 7, 2, "<i2"),
    _row("INT32", "TYPE_INT32", 8, 4, "<i4"),
    _row("INT64", "TYPE_INT64", 9, 8, "<i8"),
    _row("FP16", "TYPE_FP16", 10, 2, "<f2"),
    _row("FP32", "TYPE_FP32", 11, 4, "<f4"),
    _row("FP64", "TYPE_FP64", 12, 8, "<f8"),
    _row("BYTES", "TYPE_STRING", 13, 0, "O"),
    # numpy has no bfloat16: its elements are handled as two opaque bytes.
    _row("BF16", "TYPE_BF16", 14, 2, "<u2"),
)

BY_NAME: dict[str, Datatype] = {d.name: d for d in DATATYPES}
BY_CONFIG_VALUE: dict[int, Datatype] = {d.config_value: d for d in DATATYPES}
