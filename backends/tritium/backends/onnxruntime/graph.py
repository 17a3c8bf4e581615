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


def match(config: ModelConfig, graph: Graph) -> None:
    """Compare a configuration with the graph.

    Raises:
        InvalidArgument: they contradict each other; the message names the model and the tensor.
    """
    sequences = config.proto.sequence_batching
    added = [control.name for control in sequences.control_input]
    added += [state.input_name for state in sequences.state]
    added += [name for made in config.proto.batch_input for name in made.target_name]
    expected = len(added) + sum(not spec.optional for spec in config.inputs.values())
    if expected != len(graph.inputs):
        raise InvalidArgument(
            f"unable to load model '{config.name}', configuration expects {expected} inputs, "
            f"model provides {len(graph.inputs)}",
            hint=f"the model's inputs are {', '.join(graph.inputs)}",
        )
    for name in added:
        if name not in graph.inputs:
            raise InvalidArgument(
                f"unable to load model '{config.name}', the server adds input '{name}' (a sequence control, a state or "
                f"a batch input), but the model's inputs are {', '.join(graph.inputs)}"
            )
    inputs = {**graph.inputs, **graph.defaults}
    for spec in config.inputs.values():
        port = _port_of(config, spec, inputs, "input")
        _match_optional(config, spec)
        if spec.ragged:
            _match_ragged(config, spec, port)
        else:
            _match_dims(config, spec, port, exact=False)
    scattered = {name for made in config.proto.batch_output for name in made.target_name}
    for spec in config.outputs.values():
        port = _port_of(config, spec, graph.outputs, "output")
        if spec.name not in scattered:
            _match_dims(config, spec, port, exact=True)
    for state in sequences.state:
        if state.output_name not in graph.outputs:
            raise InvalidArgument(_unexpected(config, state.output_name, graph.outputs, "output"))


def _port_of(config: ModelConfig, spec: TensorSpec, ports: Mapping[str, Port], what: str) -> Port:
    """Return the graph's end of a configured tensor, which has its datatype."""
    port = ports.get(spec.name)
    if port is None:
        raise InvalidArgument(_unexpected(config, spec.name, ports, what))
    if not port.datatype:
        raise InvalidArgument(
            f"unable to load model '{config.name}', {what} '{spec.name}' has the ONNX type {port.onnx_type}, "
            "which no tensor datatype stands for",
            hint="sequences, maps and optionals cannot be served: export the model with tensors (for scikit-learn "
            "classifiers, options={'zipmap': False})",
        )
    if port.datatype != spec.datatype:
        raise InvalidArgument(
            f"unable to load model '{config.name}', configuration expects datatype "
            f"{BY_NAME[spec.datatype].config_name} for {what} '{spec.name}', model provides TYPE_{port.datatype}"
        )
    return port


def _unexpected(config: ModelConfig, name: str, ports: Mapping[str, Port], what: str) -> str:
    return (
        f"unable to load model '{config.name}', unexpected inference {what} '{name}', "
        f"allowed {what}s are: {', '.join(sorted(ports))}"
    )


def _match_optional(config: ModelConfig, spec: TensorSpec) -> None:
    if spec.optional and config.batches:
        raise InvalidArgument(
            f"unable to load model '{config.name}', optional input '{spec.name}' is not supported for models that "
            "support batching"
        )
    if spec.optional and spec.ragged:
        raise InvalidArgument(
            f"unable to load model '{config.name}', configuration expects model provides input with shape [-1] for "
            f"ragged input '{spec.name}', which is not supported for optional input"
        )


def _match_ragged(config: ModelConfig, spec: TensorSpec, port: Port) -> None:
    if port.dims != (-1,):
        raise InvalidArgument(
            f"unable to load model '{config.name}', configuration expects model provides input with shape [-1]  for "
            f"ragged input '{spec.name}', model provides {_text(port.dims)}"
        )


def _match_dims(config: ModelConfig, spec: TensorSpec, port: Port, *, exact: bool) -> None:
    """Compare shapes: where the graph is open, an input may be anything, an output (`exact`) must be open as well."""
    dims = spec.dims if spec.reshape is None else spec.reshape
    said = f"model '{config.name}', tensor '{spec.name}'"
    if not port.dims:
        if any(dim != 1 for dim in dims):
            raise InvalidArgument(
                f"unable to load model '{config.name}', scalar tensor '{spec.name}', should only provide 1 in the "
                f"model configuration when the model doesn't support batching. Model configuration provided: "
                f"{_text(dims)}."
            )
        return
    if config.batches and port.dims[0] != -1:
        raise InvalidArgument(
            f"{said}: for the model to support batching the shape should have at least 1 dimension and the first "
            f"dimension must be -1; but shape expected by the model is {_text(port.dims)}",
            hint="set max_batch_size: 0, or export the graph with an open first dimension",
        )
    whole = (-1, *dims) if config.batches else dims
    if len(whole) == len(port.dims) and all(
        theirs == ours or (theirs == -1 and not exact) for ours, theirs in zip(whole, port.dims, strict=True)
    ):
        return
    batching = (
        " (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making "
        f"complete shape {_text(whole)})"
    )
    raise InvalidArgument(
        f"{said}: the model expects {len(port.dims)} dimensions (shape {_text(port.dims)}) but the model configuration "
        f"specifies {len(whole)} dimensions" + (batching if config.batches else f" (shape {_text(whole)})")
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
