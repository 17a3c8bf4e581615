"""The rules of model_warmup: every dimension given, every input with its kind of data, files within the folder.

Source: GenerateWarmupData in core/src/backend_model_instance.cc; Triton checks them when it loads the model.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from tritium.compat.config.finding import Finding
from tritium.compat.config.problem import Stage

DATA_FOLDER = "warmup"
"""The folder of a model's directory in which the files of `input_data_file` lie."""


def check_warmup(config: Any) -> Iterator[Finding]:
    """Find what is wrong with the warm-up samples of a configuration."""
    if config.HasField("ensemble_scheduling"):
        return
    for index, warmup in enumerate(config.model_warmup):
        for name in sorted(warmup.inputs) if warmup.batch_size else ():
            spec, where = warmup.inputs[name], ("model_warmup", index, "inputs", name)
            if any(dim < 0 for dim in spec.dims):
                message = f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
                yield Finding((*where, "dims"), message, stage=Stage.LOAD)
            elif not spec.data_type:
                message = f"warmup setting expects input '{name}' to have data_type set"
                yield Finding(where, message, stage=Stage.LOAD)
            elif spec.WhichOneof("input_data_type") is None:
                message = f"warmup setting expects input '{name}' to have input_data_type set"
                hint = "write zero_data: true, random_data: true or input_data_file: 'FILE'"
                yield Finding(where, message, hint, Stage.LOAD)
            elif ".." in (path := PurePosixPath(spec.input_data_file)).parts or path.is_absolute():
                message = f"warmup data file '{path}' of input '{name}' must lie in the model's {DATA_FOLDER} folder"
                yield Finding((*where, "input_data_file"), message, stage=Stage.LOAD)
