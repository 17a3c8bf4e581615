"""The sum and the difference of two vectors: the smallest python model there is."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers each request by itself."""

    def execute(self, requests):
        """Return one response a request, in order."""
        responses = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            outputs = [pb_utils.Tensor("OUTPUT0", a + b), pb_utils.Tensor("OUTPUT1", a - b)]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses
