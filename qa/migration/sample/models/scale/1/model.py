"""Prices in cents."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Multiplies by a hundred."""

    def execute(self, requests):
        """Return the prices of every request in cents."""
        return [pb_utils.InferenceResponse([pb_utils.Tensor("SCALED", _cents(request))]) for request in requests]


def _cents(request):
    return (pb_utils.get_input_tensor_by_name(request, "PRICES").as_numpy() * 100).astype(np.float32)
