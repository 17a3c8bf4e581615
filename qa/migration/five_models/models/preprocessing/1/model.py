"""Words to token ids."""

import numpy as np
import triton_python_backend_utils as pb_utils
from transformers import AutoTokenizer


class TritonPythonModel:
    def initialize(self, args):
        self.tokenizer = AutoTokenizer.from_pretrained("/tokenizer")

    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        (query,) = pb_utils.get_input_tensor_by_name(request, "QUERY").as_numpy().reshape(-1)
        ids = np.array([self.tokenizer.encode(query.decode())], np.int32)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("INPUT_ID", ids), pb_utils.Tensor("REQUEST_INPUT_LEN", np.array([[ids.size]], np.int32))]
        )
