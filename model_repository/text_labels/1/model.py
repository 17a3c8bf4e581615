"""The last step of text_pipeline: probabilities to a name. The names come from `parameters` in config.pbtxt."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Picks the likeliest label."""

    def initialize(self, args):
        """Read the names of the labels."""
        parameters = json.loads(args["model_config"])["parameters"]
        names = parameters["labels"]["string_value"].split(",")
        self.names = np.array([name.encode() for name in names], dtype=np.object_)

    def execute(self, requests):
        """Return a label and its probability for each row."""
        return [self.pick(request) for request in requests]

    def pick(self, request):
        """Pick the labels of one request."""
        rows = pb_utils.get_input_tensor_by_name(request, "PROBABILITIES").as_numpy()
        labels = self.names[rows.argmax(axis=1)].reshape(-1, 1)
        scores = rows.max(axis=1, keepdims=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor("LABEL", labels), pb_utils.Tensor("SCORE", scores)])
