"""The server inside a Python program: models loaded and asked without a port, by the names of Triton's Python API.

    import tritium.api as tritonserver

    server = tritonserver.Server(model_repository="model_repository").start()
    for response in server.model("add_sub_python").infer(inputs={"INPUT0": a, "INPUT1": b}):
        total = numpy.from_dlpack(response.outputs["OUTPUT0"])

It runs on an event loop in a thread of its own; every method may be called from any thread. docs/python-api.md.
"""

from tritium.api.errors import (
    AlreadyExistsError,
    CancelledError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    TritonError,
    UnavailableError,
    UnknownError,
    UnsupportedError,
)
from tritium.api.memory_buffer import MemoryBuffer, MemoryType
from tritium.api.model import Model, ModelBatchFlag, ModelTxnPropertyFlag
from tritium.api.options import LogFormat, ModelControlMode, Options, RateLimiterResource, RateLimitMode
from tritium.api.request import InferenceRequest
from tritium.api.response import AsyncResponseIterator, InferenceResponse, ResponseIterator
from tritium.api.server import Server
from tritium.api.tensor import DataType, Tensor

__all__ = [
    "AlreadyExistsError",
    "AsyncResponseIterator",
    "CancelledError",
    "DataType",
    "InferenceRequest",
    "InferenceResponse",
    "InternalError",
    "InvalidArgumentError",
    "LogFormat",
    "MemoryBuffer",
    "MemoryType",
    "Model",
    "ModelBatchFlag",
    "ModelControlMode",
    "ModelTxnPropertyFlag",
    "NotFoundError",
    "Options",
    "RateLimitMode",
    "RateLimiterResource",
    "ResponseIterator",
    "Server",
    "Tensor",
    "TritonError",
    "UnavailableError",
    "UnknownError",
    "UnsupportedError",
]
