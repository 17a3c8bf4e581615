"""Values around their mean."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Takes the mean of each row off it."""

    def execute(self, requests):
        """Return the values of every request, centred."""
        return [pb_utils.InferenceResponse([pb_utils.Tensor("CENTRED", _centred(request))]) for request in requests]


def _centred(request):
    values = pb_utils.get_input_tensor_by_name(request, "VALUES").as_numpy()
    return (values - values.mean(axis=-1, keepdims=True)).astype(np.float32)
