"""Counts up, one response a step: what a decoupled model looks like."""

import threading

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Each request is answered by a thread of its own, so that slow streams do not hold others up."""

    def initialize(self, args):
        """Keep track of the streams, to finish them before the model goes."""
        self.streams = set()

    def execute(self, requests):
        """Start the streams and return at once: the responses come through their senders."""
        for request in requests:
            stream = threading.Thread(target=self.count, args=(request,))
            self.streams.add(stream)
            stream.start()

    def count(self, request):
        """Send COUNT responses, DELAY_MS apart; the one at FAIL_AT is an error, and the stream goes on after it."""
        sender = request.get_response_sender()
        delay_s = self.read(request, "DELAY_MS", 0) / 1000
        fail_at = self.read(request, "FAIL_AT", -1)
        pause = threading.Event()
        for index in range(self.read(request, "COUNT", 0)):
            if delay_s:
                pause.wait(delay_s)
            if sender.is_cancelled():
                break
            sender.send(self.failure(index) if index == fail_at else self.response(index))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        self.streams.discard(threading.current_thread())

    def read(self, request, name, default):
        """Return an optional input."""
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        return default if tensor is None else int(tensor.as_numpy()[0])

    def response(self, index):
        """Return one step of the count."""
        text = np.array([f"step {index} ".encode()], dtype=np.object_)
        tensors = [pb_utils.Tensor("INDEX", np.array([index], np.int32)), pb_utils.Tensor("TEXT", text)]
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def failure(self, index):
        """Return an error in a response's place."""
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"asked to fail at {index}"))

    def finalize(self):
        """Wait for the streams."""
        for stream in list(self.streams):
            stream.join()
