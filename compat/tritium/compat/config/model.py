"""A model's configuration: the protobuf message as Triton defines it, and the facts that the hot path asks of it.

The message (`inference.ModelConfig`, from the tritonclient package) stays the one source; the fields beside it
are read out once, so that no request touches protobuf to learn a shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritium.compat.datatypes import BY_CONFIG_VALUE


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output as configured; `dims` without the batch dimension, -1 where any size goes."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    reshape: tuple[int, ...] | None = None
    optional: bool = False
    ragged: bool = False
    label_filename: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ModelConfig:
    """One model's configuration. `inputs` and `outputs` keep the order of the file."""

    proto: Any
    name: str
    backend: str
    platform: str
    max_batch_size: int
    decoupled: bool
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @property
    def batches(self) -> bool:
        """Tell whether tensors carry a leading batch dimension."""
        return self.max_batch_size > 0

    def parameter(self, name: str, default: str = "") -> str:
        """Return the string value of an entry of `parameters`."""
        parameters = self.proto.parameters
        return str(parameters[name].string_value) if name in parameters else default


def from_proto(proto: Any) -> ModelConfig:
    """Read the facts out of an `inference.ModelConfig` message (which is kept, not copied)."""
    return ModelConfig(
        proto=proto,
        name=proto.name,
        backend=proto.backend,
        platform=proto.platform,
        max_batch_size=proto.max_batch_size,
        decoupled=proto.model_transaction_policy.decoupled,
        inputs={i.name: _spec(i, optional=i.optional, ragged=i.allow_ragged_batch) for i in proto.input},
        outputs={o.name: _spec(o, label_filename=o.label_filename) for o in proto.output},
    )


def _spec(io: Any, *, optional: bool = False, ragged: bool = False, label_filename: str = "") -> TensorSpec:
    kind = BY_CONFIG_VALUE.get(io.data_type)
    return TensorSpec(
        name=io.name,
        datatype=kind.name if kind else "",
        dims=tuple(io.dims),
        reshape=tuple(io.reshape.shape) if io.HasField("reshape") else None,
        optional=optional,
        ragged=ragged,
        label_filename=label_filename,
    )
