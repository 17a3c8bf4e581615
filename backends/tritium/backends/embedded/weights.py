"""Weights from safetensors files, as float32 arrays.

The format is read by hand: eight bytes of header length, a JSON header, the tensors. bfloat16, which NumPy does not
have, is the upper half of a float32.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from tritium.core.errors import InvalidArgument, NotFound, Unsupported

Floats = npt.NDArray[np.float32]

_STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_LARGEST_HEADER = 100 << 20


class Weights:
    """The tensors of a model by name, taken one by one; what nobody takes is a part that nobody computes."""

    def __init__(self, tensors: dict[str, Floats], folder: Path) -> None:
        self._tensors = tensors
        self._folder = folder
        self.digest = _digest(tensors)
        """What tells these weights from others of the same shapes."""

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str, *shape: int) -> Floats:
        """Take a tensor out.

        Raises:
            InvalidArgument: there is none of that name, or its shape is another one.
        """
        if name not in self._tensors:
            raise InvalidArgument(f"{self._folder}: the weights have no tensor {name}")
        tensor = self._tensors.pop(name)
        if tensor.shape != shape:
            raise InvalidArgument(f"{self._folder}: tensor {name} has shape {tensor.shape}, expected {shape}")
        return tensor

    def drop(self, name: str) -> None:
        """Leave a tensor out that carries nothing of its own, such as a tied copy."""
        self._tensors.pop(name, None)

    def check_all_taken(self) -> None:
        """Refuse a model with parts that were not taken.

        Raises:
            Unsupported: tensors are left.
        """
        if self._tensors:
            names = sorted(self._tensors)
            raise Unsupported(
                f"{self._folder}: this engine does not compute the parts of {len(names)} tensors, such as {names[0]}",
                "install the vllm extra for this model",
            )


def read_weights(folder: Path) -> Weights:
    """Read every tensor of `model.safetensors`, or of the files that `model.safetensors.index.json` lists.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: a file is cut short or not safetensors.
        Unsupported: tensors are of a type other than F32, F16 and BF16.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        if any("/" in name for name in names):
            raise InvalidArgument(f"{index}: files must lie beside the index")
    else:
        names = ["model.safetensors"]
    tensors: dict[str, Floats] = {}
    for name in names:
        tensors |= _read_file(folder / name)
    return Weights(tensors, folder)


def _digest(tensors: dict[str, Floats]) -> str:
    """Hash the names, and the beginning of each tensor: enough to notice another training."""
    digest = xxhash.xxh3_64()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].ravel()[:256].tobytes())
    return digest.hexdigest()


def _read_file(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        raise NotFound(f"{path} does not exist", "the weights must be in safetensors format")
    content = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8)
    header = _read_header(content, path)
    data = content[8 + struct.unpack("<Q", content[:8].tobytes())[0] :]
    return {name: _read_tensor(entry, data, f"{path}: {name}") for name, entry in header.items()}


def _read_header(content: npt.NDArray[np.uint8], path: Path) -> dict[str, Any]:
    if len(content) < 8:
        raise InvalidArgument(f"{path} is not a safetensors file: it has {len(content)} bytes")
    (length,) = struct.unpack("<Q", content[:8].tobytes())
    if length > min(_LARGEST_HEADER, len(content) - 8):
        # A Git LFS pointer is the usual cause.
        raise InvalidArgument(f"{path} is not a safetensors file: its header would have {length} bytes")
    try:
        header = json.loads(content[8 : 8 + length].tobytes())
    except ValueError as reason:
        raise InvalidArgument(f"{path}: broken safetensors header: {reason}") from None
    header.pop("__metadata__", None)
    return dict(header)


def _read_tensor(entry: dict[str, Any], data: npt.NDArray[np.uint8], where: str) -> Floats:
    stored = _STORED.get(entry["dtype"])
    if stored is None:
        raise Unsupported(f"{where} is stored as {entry['dtype']}", f"one of {', '.join(_STORED)} is expected")
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not 0 <= begin <= end <= len(data) or end - begin != int(np.prod(shape)) * np.dtype(stored).itemsize:
        raise InvalidArgument(f"{where}: the file is cut short or its offsets are wrong")
    # A copy brings the bytes to an aligned address; safetensors promises eight bytes at most.
    raw = np.frombuffer(data[begin:end].tobytes(), dtype=stored).reshape(shape)
    if entry["dtype"] == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32)
