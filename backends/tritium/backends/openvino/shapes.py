"""A model's shapes against those of its configuration. Rules and words: CompareDimsSupported of openvino_backend.

A dimension of a model is a pair of bounds, equal where it is fixed, the upper one -1 where there is none.
"""

from collections.abc import Sequence

from tritium.backends.hosted.configured import Configured, Port, Refused
from tritium.compat.pb_utils import TritonError

Bounds = tuple[int, int]


def check_shape(model: Configured, port: Port, shape: Sequence[Bounds], *, output: bool) -> None:
    """Compare one tensor; the first dimension of a model that batches is the backend's own to set.

    Raises:
        Refused: the shapes contradict each other.
    """
    said = f"model '{model.name}', tensor '{port.name}'"
    if model.batches and not shape:
        raise Refused(
            f"{said}: for the model to support batching the shape should have at least 1 dimension",
            TritonError.INVALID_ARG,
        )
    rest, dims = (shape[1:], port.dims) if model.batches else (shape, port.dims)
    if len(rest) == len(dims) and all(
        _fits(bounds, dim, open_fits=model.batches and not output) for bounds, dim in zip(rest, dims, strict=True)
    ):
        return
    whole = (model.max_batch_size, *dims) if model.batches else dims
    batching = (
        " (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making "
        f"complete shape {_text(whole)})"
    )
    raise Refused(
        f"{said}: the model expects {len(shape)} dimensions (shape {_text([_dim(bounds) for bounds in shape])}) but "
        f"the model configuration specifies {len(whole)} dimensions"
        + (batching if model.batches else f" (shape {_text(whole)})"),
        TritonError.INVALID_ARG,
    )


def _fits(bounds: Bounds, dim: int, *, open_fits: bool) -> bool:
    low, high = bounds
    if open_fits and dim == -1:
        return True
    if low == high:
        return dim == low
    return high == -1 or low <= dim <= high


def _dim(bounds: Bounds) -> int:
    return bounds[0] if bounds[0] == bounds[1] else -1


def _text(dims: Sequence[int]) -> str:
    return "[" + ",".join(map(str, dims)) + "]"
