"""bfloat16 through DLPack, which knows the type, by way of numpy, which does not.

The two differ from 16-bit integers in one byte of the DLPack header, the type code; so that byte is read and
written here, and numpy does the rest. Layout: DLManagedTensor of dlpack.h, version 0.
"""

import ctypes
from typing import Any

_UINT = 1
_BFLOAT = 4
_NAME = b"dltensor"


class _Header(ctypes.Structure):
    """The beginning of a DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    )


def _header(capsule: Any) -> _Header:
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
    return _Header.from_address(get_pointer(capsule, _NAME))


def is_bfloat16(capsule: Any) -> bool:
    """Tell whether a capsule holds bfloat16.

    Raises:
        ValueError: not a DLPack capsule, or one that was used.
    """
    return bool(_header(capsule).code == _BFLOAT)


def as_uint16(capsule: Any) -> Any:
    """Relabel a capsule of bfloat16 as one of uint16."""
    _header(capsule).code = _UINT
    return capsule


def as_bfloat16(capsule: Any) -> Any:
    """Relabel a capsule of uint16 as one of bfloat16."""
    _header(capsule).code = _BFLOAT
    return capsule
