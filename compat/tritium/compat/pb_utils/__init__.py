"""`triton_python_backend_utils`, as models import it.

A model's process puts this package into `sys.modules` under that name (`install`); nothing of that name is ever
installed. What the classes ask of the server goes through one `Runtime`, which the process binds before the model
is imported.
"""

import os
import sys

from tritium.compat.pb_utils.conversion import (
    TRITON_STRING_TO_NUMPY,
    deserialize_bytes_tensor,
    numpy_to_triton_type,
    serialize_byte_tensor,
    triton_string_to_numpy,
    triton_to_numpy_type,
)
from tritium.compat.pb_utils.errors import TritonError, TritonModelException
from tritium.compat.pb_utils.logger import Logger, LogLevel
from tritium.compat.pb_utils.lookup import (
    get_input_config_by_name,
    get_input_tensor_by_name,
    get_output_config_by_name,
    get_output_tensor_by_name,
    using_decoupled_model_transaction_policy,
)
from tritium.compat.pb_utils.memory import (
    TRITONSERVER_MEMORY_CPU,
    TRITONSERVER_MEMORY_GPU,
    MemoryType,
    PreferredMemory,
    SharedMemory,
)
from tritium.compat.pb_utils.metrics import Metric, MetricFamily, MetricKind
from tritium.compat.pb_utils.model_config import ModelConfig
from tritium.compat.pb_utils.model_control import get_model_dir, is_model_ready, load_model, unload_model
from tritium.compat.pb_utils.request import InferenceRequest, InferenceTrace
from tritium.compat.pb_utils.response import InferenceResponse, ResponseIterator
from tritium.compat.pb_utils.runtime import bind
from tritium.compat.pb_utils.sender import (
    TRITONSERVER_REQUEST_FLAG_SEQUENCE_END,
    TRITONSERVER_REQUEST_FLAG_SEQUENCE_START,
    TRITONSERVER_REQUEST_RELEASE_ALL,
    TRITONSERVER_REQUEST_RELEASE_RESCHEDULE,
    TRITONSERVER_RESPONSE_COMPLETE_FINAL,
    InferenceResponseSender,
)
from tritium.compat.pb_utils.tensor import Tensor

IMPORTABLE = os.path.join(os.path.dirname(__file__), "importable")  # noqa: PTH118, PTH120  # pathlib costs 5 ms
"""A folder for `sys.path`: in processes that a model starts, the name is imported from there."""

shared_memory = SharedMemory()

__all__ = [
    "IMPORTABLE",
    "TRITONSERVER_MEMORY_CPU",
    "TRITONSERVER_MEMORY_GPU",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START",
    "TRITONSERVER_REQUEST_RELEASE_ALL",
    "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL",
    "TRITON_STRING_TO_NUMPY",
    "InferenceRequest",
    "InferenceResponse",
    "InferenceResponseSender",
    "InferenceTrace",
    "LogLevel",
    "Logger",
    "MemoryType",
    "Metric",
    "MetricFamily",
    "MetricKind",
    "ModelConfig",
    "PreferredMemory",
    "ResponseIterator",
    "SharedMemory",
    "Tensor",
    "TritonError",
    "TritonModelException",
    "bind",
    "deserialize_bytes_tensor",
    "get_input_config_by_name",
    "get_input_tensor_by_name",
    "get_model_dir",
    "get_output_config_by_name",
    "get_output_tensor_by_name",
    "install",
    "is_model_ready",
    "load_model",
    "numpy_to_triton_type",
    "serialize_byte_tensor",
    "shared_memory",
    "triton_string_to_numpy",
    "triton_to_numpy_type",
    "unload_model",
    "using_decoupled_model_transaction_policy",
]


def install() -> None:
    """Make this package importable by the names that models use."""
    module = sys.modules[__name__]
    sys.modules["triton_python_backend_utils"] = module
    sys.modules["c_python_backend_utils"] = module
