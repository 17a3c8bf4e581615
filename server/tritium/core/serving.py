"""What every protocol front-end is handed, and how a decoded call becomes a request of a model.

decode (compat.v2) -> InferCall -> request_of() -> InferRequest -> Model.submit
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from tritium.compat.config.model import TensorSpec
from tritium.compat.v2 import regions
from tritium.compat.v2.call import Form, InferCall
from tritium.compat.v2.classification import classify
from tritium.compat.v2.refusal import Code, Refusal
from tritium.core.catalog import Catalog
from tritium.core.errors import (
    AlreadyExists,
    Cancelled,
    InferenceError,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unknown,
    Unsupported,
)
from tritium.core.log_settings import LogSettingsBook, LogSettingsControl
from tritium.core.model import Model
from tritium.core.regions import NoRegions, Regions
from tritium.core.request import NO_SEQUENCE, InferRequest, InferResponse, RequestedOutput, SequenceStep
from tritium.core.tensor import Tensor
from tritium.core.trace_settings import TraceSettingsBook, TraceSettingsControl

EXTENSIONS = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)
"""The protocol extensions that are served, in the order in which Triton lists them."""

_JSON, _BYTES, _MEMORY = Form  # bound once: an enum looks its members up by name

_ERRORS: Mapping[Code, type[InferenceError]] = {
    Code.UNKNOWN: Unknown,
    Code.INTERNAL: Internal,
    Code.NOT_FOUND: NotFound,
    Code.INVALID_ARG: InvalidArgument,
    Code.UNAVAILABLE: Unavailable,
    Code.UNSUPPORTED: Unsupported,
    Code.ALREADY_EXISTS: AlreadyExists,
    Code.CANCELLED: Cancelled,
}


def _always() -> bool:
    return True


def _no_labels(model: Model, output: str) -> Sequence[str]:  # noqa: ARG001  # the shape of `labels` below
    return ()


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the front-ends know of the server.

    `labels` gives the class labels of an output of a model, in order, from the file its configuration names.
    """

    catalog: Catalog
    name: str = "tritium"
    version: str = field(default_factory=lambda: version("tritium"))
    extensions: tuple[str, ...] = EXTENSIONS
    live: Callable[[], bool] = _always
    labels: Callable[[Model, str], Sequence[str]] = _no_labels
    regions: Regions = field(default_factory=NoRegions)
    log_settings: LogSettingsControl = field(default_factory=LogSettingsBook)
    trace_settings: TraceSettingsControl = field(default_factory=TraceSettingsBook)


def request_of(call: InferCall[Tensor], model: Model) -> InferRequest:
    """Address a decoded call to a model."""
    sequence = NO_SEQUENCE
    if call.sequence_id or call.sequence_start or call.sequence_end:
        sequence = SequenceStep(call.sequence_id, call.sequence_start, call.sequence_end)
    return InferRequest(
        model.name,
        model.version,
        call.id,
        call.inputs,
        [RequestedOutput(output.name, output.classification) for output in call.outputs],
        call.parameters,
        sequence,
        call.priority,
        call.timeout_us,
        time.monotonic_ns(),
    )


def chosen_outputs(
    server: ServerState, model: Model, call: InferCall[Tensor], response: InferResponse
) -> Iterator[tuple[Tensor, Form]]:
    """Pick the outputs that were asked for, in the model's order, each with the form in which it goes.

    What goes through shared memory is written there on the way.

    Raises:
        Refusal: classes are asked of an output that has none; the memory that is given is too small.
    """
    if not call.outputs:
        form = _BYTES if call.binary_output else _JSON
        for tensor in response.outputs:
            yield tensor, form
        return
    wanted = {output.name: output for output in call.outputs}
    for tensor in response.outputs:
        output = wanted.get(tensor.name)
        if output is None:
            continue
        if output.memory is not None:
            _write(tensor, output.memory)
            yield tensor, _MEMORY
        else:
            chosen = _classified(server, model, tensor, output.classification) if output.classification else tensor
            yield chosen, _BYTES if output.binary else _JSON


def _write(tensor: Tensor, memory: memoryview) -> None:
    size = tensor.size_bytes
    if size > len(memory):
        raise regions.too_small(tensor.name, len(memory), size)
    memory[:size] = tensor.data


def _classified(server: ServerState, model: Model, tensor: Tensor, classes: int) -> Tensor:
    shape, data = classify(
        tensor.datatype,
        tensor.shape,
        tensor.data,
        classes=classes,
        batches=model.config.batches,
        labels=server.labels(model, tensor.name),
    )
    return Tensor(tensor.name, "BYTES", shape, data)


def full_shape(model: Model, spec: TensorSpec, batch: int = -1) -> tuple[int, ...]:
    """Return the shape that clients see: the configured dimensions after the batch dimension, where there is one."""
    return (batch, *spec.dims) if model.config.batches else spec.dims


def models_counted(catalog: Catalog, name: str = "", version: str = "") -> Sequence[Model]:
    """Return the versions whose statistics are asked for: all, those of one model, or one.

    Raises:
        InvalidArgument: no such version is loaded.
    """
    if not name:
        return catalog.models()
    try:
        versions = [version] if version else catalog.versions(name)
        found = [catalog.model(name, number) for number in versions]
    except (NotFound, Unavailable):
        found = []
    if not found:
        raise InvalidArgument(f"requested model '{name}' is not available")
    return found


def check_traced(catalog: Catalog, name: str) -> None:
    """Refuse trace settings of a model that is not loaded, in the words of the trace extension.

    Raises:
        InvalidArgument: there is no such model.
    """
    try:
        catalog.model(name)
    except NotFound:
        raise InvalidArgument(f"Request for unknown model : {name}") from None


def error_of(refusal: Refusal) -> InferenceError:
    """Turn a codec's refusal into the error of the same status."""
    return _ERRORS[refusal.code](refusal.message)
