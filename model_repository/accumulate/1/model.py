"""Adds up the numbers of a sequence: what a stateful model looks like."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The sequence batcher brings every request of a sequence here, in order; the sums live in this process."""

    def initialize(self, args):
        """Begin without sequences."""
        self.sums = {}

    def execute(self, requests):
        """Return the sum so far of each request's sequence."""
        return [self.add(request) for request in requests]

    def add(self, request):
        """Add one number to its sequence, which START begins and END forgets.

        Sequences keep their places in a batch; where one has nothing to add, READY is 0, and nobody reads the answer.
        """
        start, end, ready, sequence, number = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy().item()
            for name in ("START", "END", "READY", "CORRELATION_ID", "INPUT")
        )
        if not ready:
            return pb_utils.InferenceResponse([pb_utils.Tensor("SUM", np.zeros((1, 1), np.int32))])
        total = number if start else self.sums[sequence] + number
        self.sums[sequence] = total
        if end:
            del self.sums[sequence]
        return pb_utils.InferenceResponse([pb_utils.Tensor("SUM", np.array([[total]], np.int32))])
