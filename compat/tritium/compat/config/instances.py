"""The rules of instance groups: kinds, devices, profiles.

Source: ValidateInstanceGroup in core/src/model_config_utils.cc; Triton checks them when it loads the model.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tritium.compat.config.finding import Finding
from tritium.compat.config.problem import Stage
from tritium.compat.config.tensors import TENSORRT

_ON_CPU = "start with --cpu-for-gpu (tritonserver: TRITIUM_CPU_FOR_GPU=1)"


def check_instances(config: Any, gpus: Sequence[int] = ()) -> Iterator[Finding]:
    """Find what is wrong with the instance groups of a configuration that `complete_instances` has been through."""
    if config.HasField("ensemble_scheduling"):
        return
    for index, group in enumerate(config.instance_group):
        said = f"instance group {group.name} of model {config.name}"
        kind = group.Kind.Name(group.kind) if group.kind in group.Kind.values() else str(group.kind)
        if kind == "KIND_GPU" and not group.gpus:
            yield Finding(
                ("instance_group", index, "kind"),
                f"{said} has kind KIND_GPU but no GPUs are available",
                f"write kind: KIND_CPU, or {_ON_CPU}",
                Stage.LOAD,
            )
        elif kind == "KIND_GPU":
            for place, gpu in enumerate(group.gpus):
                if gpu not in gpus:
                    yield Finding(
                        ("instance_group", index, "gpus", place),
                        f"{said} specifies invalid or unsupported gpu id {gpu}. GPUs with at least the minimum "
                        f"required CUDA compute compatibility of 6.000000 are: {', '.join(map(str, gpus))}",
                        f"this machine has none: write kind: KIND_CPU without gpus, or {_ON_CPU}" if not gpus else "",
                        Stage.LOAD,
                    )
        elif group.gpus:
            message = f"{said} has kind {kind} but specifies one or more GPUs"
            yield Finding(("instance_group", index, "gpus"), message, "write kind: KIND_GPU", Stage.LOAD)
        if group.profile and config.platform != TENSORRT:
            yield Finding(
                ("instance_group", index, "profile"),
                f"{said} and platform {config.platform}specifies profile field which is only supported for "
                "TensorRT models",
                stage=Stage.LOAD,
            )
