"""Python models that stand in: for code that a corpus of data files lacks, for backends that a reference lacks."""

# For both servers: the declared outputs, a function of all inputs.
COMPUTING = """import json

import numpy as np
import triton_python_backend_utils as pb_utils

ANSWERS_OF_A_STREAM = 3


class TritonPythonModel:
    def initialize(self, args):
        self.config = json.loads(args["model_config"])
        policy = self.config.get("model_transaction_policy") or {}
        self.decoupled = policy.get("decoupled", False)

    def execute(self, requests):
        if not self.decoupled:
            return [self.answer(request, 0) for request in requests]
        for request in requests:
            sender = request.get_response_sender()
            for index in range(ANSWERS_OF_A_STREAM):
                sender.send(self.answer(request, index))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def answer(self, request, index):
        arrays = [tensor.as_numpy() for tensor in request.inputs()]
        rows = arrays[0].shape[0] if arrays[0].ndim else 1
        batched = int(self.config.get("max_batch_size", 0)) > 0
        means = np.zeros(rows, np.float32)
        for array in arrays:
            numbers = np.vectorize(len, otypes=[np.float32])(array) if array.dtype == object else array
            flat = np.asarray(numbers, np.float32).reshape(array.shape[0] if array.ndim else 1, -1)
            means = means + (flat.mean(axis=1) if len(flat) == rows else flat.mean())
        outputs = []
        for output in self.config["output"]:
            dims = [int(size) for size in output["dims"]]
            shape = [rows, *dims] if batched else [rows if dims[0] == -1 else dims[0], *dims[1:]]
            shape = [4 if size == -1 else size for size in shape]
            per_row = means if shape[0] == rows else np.full(shape[0], means.mean(), np.float32)
            values = np.abs(per_row).reshape([-1] + [1] * (len(shape) - 1)) + index
            values = values + np.arange(shape[-1], dtype=np.float32) % 7
            outputs.append(pb_utils.Tensor(output["name"], self.cast(np.broadcast_to(values, shape), output)))
        return pb_utils.InferenceResponse(outputs)

    def cast(self, values, output):
        if output["data_type"] == "TYPE_STRING":
            return np.array([b"%.3f" % value for value in values.reshape(-1)], object).reshape(values.shape)
        kind = pb_utils.triton_string_to_numpy(output["data_type"])
        return np.ascontiguousarray(values.astype(kind))
"""

# For the reference server: a model file run by the library that its own backend would use.
_RUNNING = """import json
import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

# After the interpreter's own packages, so that its numpy stays.
sys.path.append({packages!r})


class TritonPythonModel:
    def initialize(self, args):
        self.config = json.loads(args["model_config"])
        self.load(str(Path(__file__).with_name({file!r})))

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        given = {{tensor.name(): tensor.as_numpy() for tensor in request.inputs()}}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in self.run(given)])

"""
_ONNX = """    def load(self, path):
        import onnxruntime

        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(self, given):
        for name in given:
            if given[name].dtype == object:
                given[name] = np.vectorize(lambda text: text.decode(), otypes=[object])(given[name])
        names = [output["name"] for output in self.config["output"]]
        for name, value in zip(names, self.session.run(names, given)):
            if value.dtype.kind in "UO":
                value = np.vectorize(lambda text: text.encode(), otypes=[object])(value)
            yield name, value
"""
_TORCH = """    def load(self, path):
        import torch

        self.torch = torch
        self.module = torch.jit.load(path)

    def run(self, given):
        order = [tensor["name"] for tensor in self.config["input"]]
        with self.torch.no_grad():
            answer = self.module(*(self.torch.from_numpy(given[name].copy()) for name in order))
        answers = answer if isinstance(answer, (list, tuple)) else [answer]
        for output, value in zip(self.config["output"], answers):
            yield output["name"], value.numpy()
"""


def running_onnx(packages: str) -> str:
    """Return a python model that runs the ONNX file beside it; `packages` is a folder that has onnxruntime."""
    return _RUNNING.format(packages=packages, file="model.onnx") + _ONNX


def running_torch(packages: str) -> str:
    """Return a python model that runs the TorchScript file beside it; `packages` is a folder that has torch."""
    return _RUNNING.format(packages=packages, file="model.pt") + _TORCH
