"""A request against its model's configuration, in Triton's order and Triton's words.

`RequestCheck` is prepared once a model and asked once a request. It first tries to say yes quickly; a request
that is not plainly right goes through the whole check, which says what is wrong (or that nothing is).
Source: Triton core, infer_request.cc, Normalize(); the messages are held to recorded answers of a real Triton.
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tritium.compat.config.model import ModelConfig, TensorSpec
from tritium.compat.datatypes import BY_NAME
from tritium.core.bytes_walk import BytesWalk, walk_bytes
from tritium.core.errors import InvalidArgument
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor

_INT64_MAX: Final = (1 << 63) - 1

_BATCH_NOTE: Final = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try "
    "setting max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)


@dataclass(frozen=True, slots=True)
class _Expected:
    """What is asked of one input; `size_bytes` of one batch element, -1 where it depends on the shape."""

    spec: TensorSpec
    datatype: str
    dims: tuple[int, ...]
    fixed: bool
    element_bytes: int
    size_bytes: int
    bit: int


class RequestCheck:
    """The check of one model."""

    def __init__(self, config: ModelConfig) -> None:
        self._name = config.name
        self._batches = config.batches
        self._max_batch_size = config.max_batch_size
        self._expected = {
            spec.name: _expected(spec, 1 << position) for position, spec in enumerate(config.inputs.values())
        }
        self._required = [spec.name for spec in config.inputs.values() if not spec.optional]
        self._required_bits = sum(self._expected[name].bit for name in self._required)
        self._outputs = {name: 1 << position for position, name in enumerate(config.outputs)}

    def __call__(self, request: InferRequest) -> int:
        """Return the request's batch size (1 for a model without batching).

        Raises:
            InvalidArgument: in Triton's words, the first thing that Triton would find wrong.
        """
        batch_size = self._plainly_right(request)
        return batch_size if batch_size > 0 else self._examine(request)

    def _plainly_right(self, request: InferRequest) -> int:
        """Return the batch size of a request in which nothing is wrong, or 0 where that is not plain."""
        asked = 0
        for output in request.outputs:
            bit = self._outputs.get(output.name, 0)
            if not bit or asked & bit:
                return 0
            asked |= bit
        batch_size = 0 if self._batches else 1
        seen = 0
        for tensor in request.inputs:
            expected = self._expected.get(tensor.name)
            if expected is None or tensor.datatype != expected.datatype:
                return 0
            shape, data = tensor.shape, tensor.data
            if self._batches:
                if not shape or (batch_size and shape[0] != batch_size):
                    return 0
                batch_size, shape = shape[0], shape[1:]
            if expected.fixed:
                size = data.nbytes if type(data) is memoryview else len(data)
                if shape != expected.dims or size != expected.size_bytes * batch_size:
                    return 0
            elif not _fits(shape, expected.dims) or not _sized(tensor, expected.element_bytes):
                return 0
            if seen & expected.bit:
                return 0
            seen |= expected.bit
        if seen & self._required_bits != self._required_bits:
            return 0
        if not self._batches:
            return 1
        return batch_size if 0 < batch_size <= self._max_batch_size else 0

    def _examine(self, request: InferRequest) -> int:
        about = request.about
        given: dict[str, Tensor] = {}
        for tensor in request.inputs:
            if tensor.name in given:
                raise InvalidArgument(f"{about}input '{tensor.name}' already exists in request")
            given[tensor.name] = tensor
        asked: set[str] = set()
        for output in request.outputs:
            if output.name in asked:
                raise InvalidArgument(f"{about}output '{output.name}' already exists in request")
            asked.add(output.name)
        for output in request.outputs:
            if output.name not in self._outputs:
                raise InvalidArgument(
                    f"unexpected inference output '{output.name}' for model '{self._name}'",
                    hint=_meant(output.name, self._outputs),
                )
        if not len(self._required) <= len(given) <= len(self._expected):
            raise InvalidArgument(about + self._wrong_count(given))
        # Triton keeps inputs in a hash map that lists the last one added first; which of several errors a
        # client sees depends on it.
        tensors = list(reversed(given.values()))
        batch_size = self._batch_size(tensors, about)
        if any(name not in given for name in self._required):
            # Triton counts inputs only, and would let an optional one stand in for a required one.
            raise InvalidArgument(about + self._wrong_count(given))
        if batch_size > self._max_batch_size:
            raise InvalidArgument(
                f"{about}inference request batch-size must be <= {self._max_batch_size} for '{self._name}'"
            )
        for tensor in tensors:
            self._examine_input(tensor, batch_size, about)
        return max(1, batch_size)

    def _wrong_count(self, given: dict[str, Tensor]) -> str:
        missing = [name for name in self._required if name not in given]
        if len(self._required) == len(self._expected):
            expectation = f"expected {len(self._expected)} inputs"
        else:
            expectation = f"expected number of inputs between {len(self._required)} and {len(self._expected)}"
        # Triton cuts the last character of the list of missing inputs also when the list is empty.
        missing_list = f"[{_quoted(missing)}]" if missing else "]"
        return (
            f"{expectation} but got {len(given)} inputs for model '{self._name}'. Got input(s) "
            f"[{_quoted(reversed(given))}], but missing required input(s) {missing_list}. "
            "Please provide all required input(s)."
        )

    def _batch_size(self, tensors: Sequence[Tensor], about: str) -> int:
        batch_size = 0
        for tensor in tensors:
            if tensor.name not in self._expected:
                raise InvalidArgument(
                    f"unexpected inference input '{tensor.name}' for model '{self._name}'",
                    hint=_meant(tensor.name, self._expected),
                )
            if not self._batches:
                continue
            if not tensor.shape:
                raise InvalidArgument(
                    f"{about}input '{tensor.name}' has no shape but model requires batch dimension for '{self._name}'"
                )
            if batch_size == 0:
                batch_size = tensor.shape[0]
            elif tensor.shape[0] != batch_size:
                raise InvalidArgument(
                    f"{about}input '{tensor.name}' batch size does not match other inputs for '{self._name}'"
                )
        return batch_size

    def _examine_input(self, tensor: Tensor, batch_size: int, about: str) -> None:
        expected = self._expected[tensor.name]
        if tensor.datatype != expected.datatype:
            datatype = tensor.datatype if tensor.datatype in BY_NAME else "<invalid>"
            raise InvalidArgument(
                f"{about}inference input '{tensor.name}' data-type is '{datatype}', "
                f"but model '{self._name}' expects '{expected.datatype}'"
            )
        shape = tensor.shape[1:] if self._batches else tensor.shape
        if len(shape) == len(expected.dims) and -1 in shape:
            raise InvalidArgument(
                f"{about}All input dimensions should be specified for input '{tensor.name}' "
                f"for model '{self._name}', got {_dims(tensor.shape)}"
            )
        if not _matches(shape, expected.dims):
            wanted = (-1, *expected.dims) if self._batches else expected.dims
            raise InvalidArgument(
                f"{about}unexpected shape for input '{tensor.name}' for model '{self._name}'. "
                f"Expected {_dims(wanted)}, got {_dims(tensor.shape)}. {_BATCH_NOTE if self._batches else ''}"
            )
        counted = (batch_size, *shape) if batch_size else shape
        if any(dim < 0 for dim in counted):
            raise InvalidArgument(f"{about}tensor '{tensor.name}' contains an invalid dimension {_dims(counted)}")
        elements = math.prod(counted)
        # An array of no elements still has strides, which no library can count beyond 64 bits.
        extent = elements or math.prod(dim or 1 for dim in counted)
        if extent * max(1, expected.element_bytes) > _INT64_MAX:
            what = "byte size" if expected.element_bytes else "element count"
            raise InvalidArgument(f"{about}{what} for tensor '{tensor.name}' exceeds maximum size of {_INT64_MAX}")
        if expected.element_bytes == 0:
            self._examine_bytes(tensor, elements, about)
        elif tensor.size_bytes != elements * expected.element_bytes:
            raise InvalidArgument(
                f"{about}input byte size mismatch for input '{tensor.name}' for model '{self._name}'. "
                f"Expected {elements * expected.element_bytes}, got {tensor.size_bytes}"
            )

    def _examine_bytes(self, tensor: Tensor, expected: int, about: str) -> None:
        where = f"inference input '{tensor.name}' for model '{self._name}'"
        found = _walk(tensor, expected)
        if found.trailing:
            raise InvalidArgument(
                f"{about}incomplete string length indicator for {where}, expecting 4 bytes but only "
                f"{found.trailing} bytes available. Please make sure the string length indicator is in one buffer."
            )
        if found.elements > expected:
            raise InvalidArgument(
                f"{about}unexpected number of string elements {found.elements} for {where}, expecting {expected}"
            )
        if found.lacking:
            raise InvalidArgument(
                f"incomplete string data for inference input '{tensor.name}', expecting string of length "
                f"{found.length} but only {found.length - found.lacking} bytes available"
            )
        if found.elements != expected:
            raise InvalidArgument(f"{about}expected {expected} string elements for {where}, got {found.elements}")


def _expected(spec: TensorSpec, bit: int) -> _Expected:
    kind = BY_NAME[spec.datatype]
    fixed = kind.fixed and all(dim >= 0 for dim in spec.dims)
    size_bytes = math.prod(spec.dims) * kind.size_bytes if fixed else -1
    return _Expected(spec, spec.datatype, spec.dims, fixed, kind.size_bytes, size_bytes, bit)


def _matches(shape: Sequence[int], dims: Sequence[int]) -> bool:
    return len(shape) == len(dims) and all(want in (-1, got) for got, want in zip(shape, dims, strict=True))


def _fits(shape: Sequence[int], dims: Sequence[int]) -> bool:
    return _matches(shape, dims) and all(dim >= 0 for dim in shape)


def _sized(tensor: Tensor, element_bytes: int) -> bool:
    """Tell whether the data is as long as the shape says; a tensor of no elements is looked at more closely."""
    elements = math.prod(tensor.shape)
    if not elements:
        return False
    if element_bytes:
        return tensor.size_bytes == elements * element_bytes
    return _walk(tensor, elements).right


def _walk(tensor: Tensor, elements: int) -> BytesWalk:
    """Return what a walk has found, or walk."""
    walk = tensor.walk
    return walk if walk is not None and walk.expected == elements else walk_bytes(tensor.data, elements)


def _meant(name: str, known: Iterable[str]) -> str:
    """Say which tensor may have been meant, or which ones there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"


def _quoted(names: Iterable[str]) -> str:
    return ",".join(f"'{name}'" for name in names)


def _dims(shape: Sequence[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
