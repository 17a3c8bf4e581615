"""What Triton fills into a configuration before a model is loaded: names, backend, policy, instance groups.

The functions change the message they are given, as Triton does; what the model itself knows (inputs, outputs) is
filled in later by its backend. Source: core/src/model_config_utils.cc (2.69 to 2.73).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tritium.compat.protobufs import model_config_pb2

ENSEMBLE = "ensemble"
SEQUENCE_IDLE_MICROSECONDS = 1_000_000

_KIND_AUTO = model_config_pb2.ModelInstanceGroup.KIND_AUTO
_KIND_CPU = model_config_pb2.ModelInstanceGroup.KIND_CPU
_KIND_GPU = model_config_pb2.ModelInstanceGroup.KIND_GPU


@dataclass(frozen=True, slots=True)
class Family:
    """How the models of one backend are recognized: the platforms that mean it and its usual file."""

    backend: str
    filename: str
    platforms: tuple[str, ...] = ()
    default_platform: str = ""


# In the order in which Triton tries them.
FAMILIES = (
    Family("tensorflow", "model.savedmodel", ("tensorflow_savedmodel",), "tensorflow_savedmodel"),
    Family("tensorflow", "model.graphdef", ("tensorflow_graphdef",), "tensorflow_graphdef"),
    Family("tensorrt", "model.plan", ("tensorrt_plan",), "tensorrt_plan"),
    Family("onnxruntime", "model.onnx", ("onnxruntime_onnx",), "onnxruntime_onnx"),
    Family("openvino", "model.xml"),
    Family("pytorch", "model.pt", ("pytorch_libtorch", "libtorch", "torch_libtorch"), "pytorch_libtorch"),
    Family("pytorch", "model.pt2", ("torch_aoti",), "torch_aoti"),
    Family("python", "model.py"),
)


class UnknownBackend(ValueError):
    """Neither the configuration nor the files say which backend runs the model."""


def complete_backend(config: Any, model_name: str, files: Collection[str]) -> None:
    """Fill in name, backend, platform and default_model_filename; `files` are those of the first version.

    Raises:
        UnknownBackend: nothing tells the backend (in Triton's words).
    """
    if not config.name:
        config.name = model_name
    if config.platform == ENSEMBLE:
        return
    family = _family(config, files)
    if family is None:
        _complete_by_name(config, model_name)
        return
    names_file = _names_file(config, family)
    if not config.backend:
        config.backend = family.backend
    if not config.platform:
        config.platform = family.default_platform
    if not config.default_model_filename and names_file:
        config.default_model_filename = family.filename


def _names_file(config: Any, family: Family) -> bool:
    """Tell whether the usual file is written out.

    Of LibTorch only where the configuration names the backend alone: neither a platform nor a runtime.
    """
    if family.default_platform != "pytorch_libtorch":
        return True
    return bool(config.backend) and not config.platform and not config.runtime


def _family(config: Any, files: Collection[str]) -> Family | None:
    """Choose by backend, else by platform or file name in the configuration, else by the files there are."""
    named = [f for f in FAMILIES if f.backend == config.backend]
    if config.backend:
        exact = [f for f in named if config.platform in f.platforms or config.default_model_filename == f.filename]
        present = [f for f in named if f.filename in files]
        # TensorFlow has two kinds of files, and no default between them.
        return next(iter(exact or present or [f for f in named if f.backend != "tensorflow"]), None)
    for family in FAMILIES:
        if config.platform in family.platforms or config.default_model_filename == family.filename:
            return family
    if config.platform or config.default_model_filename:
        return None
    return next((f for f in FAMILIES if f.filename in files), None)


def _complete_by_name(config: Any, model_name: str) -> None:
    if config.backend or config.platform or config.default_model_filename:
        return
    _, dot, backend = model_name.partition(".")
    if not dot:
        raise UnknownBackend(
            f"Invalid model name: Could not determine backend for model '{model_name}' with no backend in model "
            "configuration. Expected model name of the form 'model.<backend_name>'."
        )
    config.backend = backend
    config.default_model_filename = f"model.{backend}"


def normalize(config: Any) -> None:
    """Write the defaults out that Triton writes out: version policy, preferred sizes, idle time, pinned memory."""
    if not config.HasField("version_policy"):
        config.version_policy.latest.num_versions = 1
    if config.HasField("dynamic_batching"):
        _prefer_whole_batch(config.dynamic_batching, config.max_batch_size)
    if config.HasField("sequence_batching"):
        sequence = config.sequence_batching
        if sequence.max_sequence_idle_microseconds == 0:
            sequence.max_sequence_idle_microseconds = SEQUENCE_IDLE_MICROSECONDS
        if sequence.HasField("oldest"):
            _prefer_whole_batch(sequence.oldest, config.max_batch_size)
    if not config.HasField("ensemble_scheduling"):
        for memory in ("input_pinned_memory", "output_pinned_memory"):
            if not config.optimization.HasField(memory):
                getattr(config.optimization, memory).enable = True


def _prefer_whole_batch(batching: Any, max_batch_size: int) -> None:
    if not batching.preferred_batch_size and max_batch_size > 0:
        batching.preferred_batch_size.append(max_batch_size)


def complete_instances(config: Any, gpus: Sequence[int] = ()) -> None:
    """Give every instance group its name, kind, count and devices; `gpus` are those of this machine.

    A model without any group gets one named like the model; an unnamed group is named MODEL_INDEX.
    """
    if config.HasField("ensemble_scheduling") or config.platform == ENSEMBLE:
        return
    if not config.instance_group:
        config.instance_group.add(name=config.name)
    for index, group in enumerate(config.instance_group):
        if not group.name:
            group.name = f"{config.name}_{index}"
        if group.kind == _KIND_AUTO:
            on_gpu = bool(gpus) and all(g in gpus for g in group.gpus)
            group.kind = _KIND_GPU if on_gpu else _KIND_CPU
        if group.count < 1:
            # onnxruntime and tensorflow run two instances on a CPU unless told otherwise.
            doubled = group.kind == _KIND_CPU and config.backend in ("onnxruntime", "tensorflow")
            group.count = 2 if doubled else 1
        if group.kind == _KIND_GPU and not group.gpus:
            group.gpus.extend(gpus)
