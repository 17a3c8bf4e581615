"""What becomes of every field of a model configuration here.

An entry speaks for all fields below it that have none of their own; a test walks the messages of model_config.proto
and demands one for each. Fields that are noted are said at start and by `tritium check`, where a model gives them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Fate(StrEnum):
    """What becomes of a field."""

    HONOURED = "honoured"
    NOTED = "noted"
    """It changes nothing here, and that is said."""
    CHECKED = "checked"
    """It is honoured or refused by the value or by the backend; the note says by what."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The fate of a field, with the reason where it is not simply honoured."""

    fate: Fate
    note: str = ""


_HONOURED = Coverage(Fate.HONOURED)
_GPU_MEMORY = "it is about copies to a GPU, which models here make themselves"

COVERAGE: Mapping[str, Coverage] = {
    "name": _HONOURED,
    "platform": _HONOURED,
    "backend": _HONOURED,
    "runtime": Coverage(Fate.CHECKED, "it is read by the backends that have more than one runtime (python, pytorch)"),
    "version_policy": _HONOURED,
    "max_batch_size": _HONOURED,
    "input": _HONOURED,
    "input.format": Coverage(Fate.CHECKED, "it names the order of an image's dimensions, which are given in full"),
    "input.is_shape_tensor": Coverage(Fate.CHECKED, "shape tensors are TensorRT's, which is refused"),
    "input.is_non_linear_format_io": Coverage(Fate.CHECKED, "such formats are TensorRT's, which is refused"),
    "output": _HONOURED,
    "output.is_shape_tensor": Coverage(Fate.CHECKED, "shape tensors are TensorRT's, which is refused"),
    "output.is_non_linear_format_io": Coverage(Fate.CHECKED, "such formats are TensorRT's, which is refused"),
    "batch_input": Coverage(Fate.CHECKED, "only backends that run a batch as one make such tensors"),
    "batch_output": Coverage(Fate.CHECKED, "only backends that run a batch as one cut such tensors"),
    "optimization.graph": Coverage(Fate.CHECKED, "its level is read by onnxruntime"),
    "optimization.priority": Coverage(
        Fate.NOTED, "it orders work on a GPU; instance_group.rate_limiter orders it here"
    ),
    "optimization.cuda": Coverage(Fate.NOTED, "it is about CUDA graphs, which only TensorRT uses"),
    "optimization.execution_accelerators.cpu_execution_accelerator": Coverage(
        Fate.CHECKED, "it is read by onnxruntime; a model runs without openvino where that is not installed"
    ),
    "optimization.execution_accelerators.gpu_execution_accelerator": Coverage(
        Fate.CHECKED, "onnxruntime takes it for instances on a GPU; on the CPU the model runs without"
    ),
    "optimization.input_pinned_memory": Coverage(Fate.CHECKED, f"{_GPU_MEMORY}; every completed configuration has it"),
    "optimization.output_pinned_memory": Coverage(Fate.CHECKED, f"{_GPU_MEMORY}; every completed configuration has it"),
    "optimization.gather_kernel_buffer_threshold": Coverage(Fate.NOTED, _GPU_MEMORY),
    "optimization.eager_batching": Coverage(Fate.NOTED, "batches are gathered when an instance is free"),
    "dynamic_batching": _HONOURED,
    "sequence_batching": _HONOURED,
    "sequence_batching.state.use_same_buffer_for_input_output": _HONOURED,
    "sequence_batching.state.use_growable_memory": _HONOURED,
    "ensemble_scheduling": _HONOURED,
    "instance_group": _HONOURED,
    "instance_group.secondary_devices": Coverage(
        Fate.NOTED, "it names accelerators beside a GPU, which no backend here uses"
    ),
    "instance_group.profile": Coverage(Fate.CHECKED, "profiles are TensorRT's, which is refused"),
    "instance_group.host_policy": Coverage(
        Fate.NOTED, "it names NUMA nodes and cores, which the operating system chooses here"
    ),
    "default_model_filename": _HONOURED,
    "cc_model_filenames": Coverage(
        Fate.NOTED, "it chooses a file by a GPU's compute capability: default_model_filename is taken"
    ),
    "metric_tags": _HONOURED,
    "parameters": _HONOURED,
    "model_warmup": _HONOURED,
    "model_operations.op_library_filename": Coverage(
        Fate.CHECKED, "onnxruntime loads such libraries; other backends have none"
    ),
    "model_transaction_policy": _HONOURED,
    "model_repository_agents": Coverage(Fate.CHECKED, "the agent checksum is there, others are refused"),
    "response_cache": _HONOURED,
    "model_metrics": _HONOURED,
}
