"""A response: one that a model makes, or one that another model gave it."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tritium.compat.pb_utils.errors import TritonError, TritonModelException
from tritium.compat.pb_utils.tensor import Tensor

if TYPE_CHECKING:
    from tritium.compat.pb_utils.runtime import Pending


def check_parameters(parameters: dict[str, Any] | None) -> dict[str, Any]:
    """Return response or request parameters, as given.

    Raises:
        TritonModelException: no dict, a key that is not a str, or a value that is not a bool, int or str.
    """
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise TritonModelException(f"Expect dict, got {type(parameters)}")
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TritonModelException(f"Expect parameters keys to have type str, found type {type(key)}")
        if not isinstance(value, bool | int | str):
            raise TritonModelException(f"Expect parameters values to have type bool/int/str, found type {type(value)}")
    return parameters


class InferenceResponse:
    """Output tensors, or an error."""

    __slots__ = ("_error", "_outputs", "parameter_values")

    parameter_values: dict[str, Any]

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        self._outputs = list(output_tensors)
        for output in self._outputs:
            if not isinstance(output, Tensor):
                if output is None:
                    raise TritonModelException("Output tensor for inference response should not be empty.")
                raise TypeError(f"output_tensors must hold pb_utils.Tensor objects, found {type(output)}")
        if error is not None and not isinstance(error, TritonError):
            raise TypeError(f"error must be a pb_utils.TritonError, found {type(error)}")
        self._error = error
        self.parameter_values = {} if parameters is None else check_parameters(parameters)

    def output_tensors(self) -> list[Tensor]:
        """Return the outputs."""
        return self._outputs

    def has_error(self) -> bool:
        """Tell whether this is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """Return the error, if it is one."""
        return self._error

    def parameters(self) -> str:
        """Return the parameters as JSON text, empty where there are none."""
        return json.dumps(self.parameter_values) if self.parameter_values else ""


class ResponseIterator:
    """The responses of a decoupled model, waited for one by one; a second loop sees those that came again."""

    def __init__(self, pending: "Pending") -> None:
        self._pending = pending
        self._seen: list[InferenceResponse] = []
        self._at = 0
        self._finished = False

    def __iter__(self) -> Iterator[InferenceResponse]:
        if self._finished and self._at >= len(self._seen):
            self._at = 0
        return self

    def __next__(self) -> InferenceResponse:
        if not self._finished:
            response = self._pending.take()
            if response is not None:
                self._seen.append(response)
                self._at = len(self._seen)
                return response
            self._finished = True
        if self._at >= len(self._seen):
            raise StopIteration
        self._at += 1
        return self._seen[self._at - 1]

    def cancel(self) -> None:
        """Ask the other model to stop; the responses already on their way still come."""
        self._pending.cancel()
