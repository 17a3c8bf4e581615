"""The first step of text_pipeline: text to word numbers. Files beside model.py can be imported."""

import numpy as np
import triton_python_backend_utils as pb_utils
from words import word_numbers


class TritonPythonModel:
    """Answers each request of a batch by itself; a request may hold several texts."""

    def execute(self, requests):
        """Return one row of word numbers a text."""
        return [self.tokenize(request) for request in requests]

    def tokenize(self, request):
        """Tokenize the texts of one request."""
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        rows = [word_numbers(text.decode("utf-8", "replace")) for text in texts[:, 0]]
        return pb_utils.InferenceResponse([pb_utils.Tensor("WORDS", np.array(rows, np.int64))])
