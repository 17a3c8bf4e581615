"""What an ONNX graph says of its inputs and outputs, against what the model's configuration says of them.

`complete` fills the configuration from the graph; `match` refuses a configuration that the graph contradicts.
Rules and words: Triton's onnxruntime backend, AutoCompleteConfig and ValidateInputs/ValidateOutputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritium.backends.onnxruntime.values import DATATYPES
from tritium.compat.config.model import ModelConfig, TensorSpec, from_proto
from tritium.compat.datatypes import BY_NAME
from tritium.core.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a graph; `dims` has -1 where any size goes, `datatype` is "" where we have none."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    onnx_type: str


@dataclass(frozen=True, slots=True)
class Graph:
    """The signature of a graph; `defaults` are inputs that have a value when none is given."""

    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    defaults: Mapping[str, Port]

    @property
    def batches(self) -> bool:
        """Tell whether every input and output leaves its first dimension open."""
        return all(port.dims[:1] == (-1,) for port in (*self.inputs.values(), *self.outputs.values()))


def read(session: Any) -> Graph:
    """Read the signature of a loaded graph."""
    return Graph(
        _ports(session.get_inputs()), _ports(session.get_outputs()), _ports(session.get_overridable_initializers())
    )


def complete(config: ModelConfig, graph: Graph, default_max_batch_size: int) -> ModelConfig:
    """Return the configuration with inputs, outputs, batch size and dynamic batching filled in where missing.

    Raises:
        InvalidArgument: a batch size is configured, but the graph cannot batch.
    """
    proto = type(config.proto)()
    proto.CopyFrom(config.proto)
    if graph.batches:
        if proto.max_batch_size == 0:
            proto.max_batch_size = max(0, default_max_batch_size)
        if proto.max_batch_size > 1 and proto.WhichOneof("scheduling_choice") is None:
            proto.dynamic_batching.SetInParent()
    elif proto.max_batch_size:
        raise InvalidArgument(
            f"autofill failed for model '{config.name}': model does not support batching while non-zero "
            "max_batch_size is specified",
            hint="set max_batch_size: 0, or export the graph with an open first dimension",
        )
    if not proto.input:
        _fill(proto.input, graph.inputs, batches=proto.max_batch_size > 0)
    if not proto.output:
        _fill(proto.output, graph.outputs, batches=proto.max_batch_size > 0)
    return from_proto(proto)


def match(config: ModelConfig, graph: Graph, controls: Sequence[str] = ()) -> None:
    """Compare a configuration with the graph; `controls` are inputs that the sequence batcher adds.

    Raises:
        InvalidArgument: they contradict each other; the message names the model and the tensor.
    """
    required = [spec for spec in config.inputs.values() if not spec.optional]
    if len(required) + len(controls) != len(graph.inputs):
        raise InvalidArgument(
            f"unable to load model '{config.name}', configuration expects {len(required) + len(controls)} inputs, "
            f"model provides {len(graph.inputs)}",
            hint=f"the model's inputs are {', '.join(graph.inputs)}",
        )
    for control in controls:
        if control not in graph.inputs:
            raise InvalidArgument(
                f"configuration specified sequence control '{control}', but model does not provide that input"
            )
    for spec in config.inputs.values():
        _match_port(config, spec, {**graph.inputs, **graph.defaults}, "input")
    for spec in config.outputs.values():
        _match_port(config, spec, graph.outputs, "output")


def _match_port(config: ModelConfig, spec: TensorSpec, ports: Mapping[str, Port], what: str) -> None:
    port = ports.get(spec.name)
    if port is None:
        raise InvalidArgument(
            f"unable to load model '{config.name}', unexpected inference {what} '{spec.name}', "
            f"allowed {what}s are: {', '.join(ports)}"
        )
    if not port.datatype:
        raise InvalidArgument(
            f"unable to load model '{config.name}', {what} '{spec.name}' has the ONNX type {port.onnx_type}, "
            "which no tensor datatype stands for"
        )
    if port.datatype != spec.datatype:
        raise InvalidArgument(
            f"unable to load model '{config.name}', configuration expects datatype "
            f"{BY_NAME[spec.datatype].config_name} for {what} '{spec.name}', "
            f"model provides {BY_NAME[port.datatype].config_name}"
        )
    dims = spec.dims if spec.reshape is None else spec.reshape
    if not port.dims:
        if any(dim != 1 for dim in dims):
            raise InvalidArgument(
                f"unable to load model '{config.name}', scalar tensor '{spec.name}', should only provide 1 in the "
                f"model configuration when the model doesn't support batching. Model configuration provided: "
                f"{_text(dims)}."
            )
        return
    if not spec.ragged and not _compatible((-1, *dims) if config.batches else dims, port.dims):
        raise InvalidArgument(_shape_mismatch(config, spec.name, dims, port))


def _shape_mismatch(config: ModelConfig, name: str, dims: Sequence[int], port: Port) -> str:
    if not config.batches:
        return (
            f"model '{config.name}', tensor '{name}': the model expects {len(port.dims)} dimensions "
            f"(shape {_text(port.dims)}) but the model configuration specifies {len(dims)} dimensions "
            f"(shape {_text(dims)})"
        )
    return (
        f"model '{config.name}', tensor '{name}': the model expects {len(port.dims)} dimensions "
        f"(shape {_text(port.dims)}) but the model configuration specifies {len(dims) + 1} dimensions (an initial "
        f"batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making complete shape "
        f"{_text((-1, *dims))})"
    )


def _compatible(dims: Sequence[int], graph_dims: Sequence[int]) -> bool:
    return len(dims) == len(graph_dims) and all(
        -1 in (ours, theirs) or ours == theirs for ours, theirs in zip(dims, graph_dims, strict=True)
    )


def _fill(fields: Any, ports: Mapping[str, Port], *, batches: bool) -> None:
    for port in ports.values():
        entry = fields.add(name=port.name)
        if port.datatype:
            entry.data_type = BY_NAME[port.datatype].config_value
        dims = port.dims[1:] if batches else port.dims
        entry.dims.extend(dims or (1,))
        if batches and not dims:
            entry.reshape.SetInParent()


def _ports(nodes: Sequence[Any]) -> dict[str, Port]:
    return {
        node.name: Port(
            node.name,
            DATATYPES.get(node.type, ""),
            tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape or ()),
            node.type,
        )
        for node in nodes
    }


def _text(dims: Sequence[int]) -> str:
    return "[" + ",".join(map(str, dims)) + "]"
