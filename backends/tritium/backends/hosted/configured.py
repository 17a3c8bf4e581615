"""A model's configuration as its process is told it: Triton's JSON, read once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritium.backends.python.process.execution import Misuse
from tritium.compat.config.parameter_values import read_count, read_flag
from tritium.compat.datatypes import DATATYPES
from tritium.compat.pb_utils import TritonError

_BY_CONFIG_NAME = {kind.config_name: kind.name for kind in DATATYPES}


class Refused(Misuse):
    """What is asked of a model cannot be done; told as it stands, with a TRITONSERVER_Error_Code."""

    def __init__(self, said: str, code: int = TritonError.INTERNAL) -> None:
        super().__init__(said, code)


@dataclass(frozen=True, slots=True)
class Port:
    """An input, output or state; `dims` are those the model itself sees, without the batch dimension."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    config_type: str
    optional: bool = False
    ragged: bool = False


@dataclass(frozen=True, slots=True)
class Control:
    """A tensor that the sequence batcher adds to each request: `kind` as CONTROL_SEQUENCE_START."""

    name: str
    kind: str
    config_type: str


@dataclass(frozen=True, slots=True)
class Configured:
    """What a process needs to know of its model.

    `config` is the whole configuration as JSON has it, for completing it. `states_in` and `states_out` are the two
    ends of implicit state, `batch_inputs` the tensors that the server makes of a batch.
    """

    name: str
    version_folder: Path
    filename: str
    platform: str
    kind: str
    device: int
    max_batch_size: int
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    controls: tuple[Control, ...]
    states_in: tuple[Port, ...]
    states_out: tuple[Port, ...]
    batch_inputs: tuple[str, ...]
    parameters: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def batches(self) -> bool:
        """Tell whether tensors carry a leading batch dimension."""
        return self.max_batch_size > 0

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a parameter that is on or off.

        Raises:
            Refused: it is neither, in Triton's words.
        """
        text = self.parameters.get(name)
        if text is None:
            return default
        try:
            return read_flag(text)
        except ValueError as error:
            raise Refused(str(error), TritonError.INVALID_ARG) from None

    def count(self, name: str, default: int = 0) -> int:
        """Return a parameter that is a number.

        Raises:
            Refused: it is none, in Triton's words.
        """
        text = self.parameters.get(name)
        if text is None:
            return default
        try:
            return read_count(text)
        except ValueError as error:
            raise Refused(str(error), TritonError.INVALID_ARG) from None


def read_arguments(arguments: Mapping[str, str]) -> Configured:
    """Read what Triton hands a python model's `initialize`."""
    config: dict[str, Any] = json.loads(arguments["model_config"])
    sequences = config.get("sequence_batching") or {}
    states = sequences.get("state") or []
    return Configured(
        name=arguments["model_name"],
        version_folder=Path(arguments["model_repository"]) / arguments["model_version"],
        filename=config["default_model_filename"],
        platform=config["platform"],
        kind=arguments["model_instance_kind"],
        device=int(arguments["model_instance_device_id"]),
        max_batch_size=config["max_batch_size"],
        inputs={port.name: port for port in map(_port, config["input"])},
        outputs={port.name: port for port in map(_port, config["output"])},
        controls=tuple(
            Control(control["name"], kind["kind"], _control_type(kind))
            for control in sequences.get("control_input") or []
            for kind in control["control"]
        ),
        states_in=tuple(_port({**state, "name": state["input_name"]}) for state in states),
        states_out=tuple(_port({**state, "name": state["output_name"]}) for state in states),
        batch_inputs=tuple(name for made in config.get("batch_input") or [] for name in made["target_name"]),
        parameters={name: value["string_value"] for name, value in config["parameters"].items()},
        config=config,
    )


def _port(io: Mapping[str, Any]) -> Port:
    reshape = io.get("reshape")
    return Port(
        name=io["name"],
        datatype=_BY_CONFIG_NAME.get(io["data_type"], ""),
        dims=tuple(io["dims"] if reshape is None else reshape["shape"]),
        config_type=io["data_type"],
        optional=bool(io.get("optional")),
        ragged=bool(io.get("allow_ragged_batch")),
    )


def _control_type(kind: Mapping[str, Any]) -> str:
    if kind["kind"] == "CONTROL_SEQUENCE_CORRID":
        return str(kind["data_type"])
    by_values = (("fp32_false_true", "TYPE_FP32"), ("bool_false_true", "TYPE_BOOL"))
    return next((name for field, name in by_values if kind.get(field)), "TYPE_INT32")
