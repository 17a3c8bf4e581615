"""The identity backend: every output is the input of the same index, byte for byte and without a copy.

For trying and testing a server apart from models. `parameters` as in Triton's identity backend: execute_delay_ms,
instance_wise_delay_multiplier (the delay times the instance's number times this), creation_delay_sec.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.compat.config.model import ModelConfig, TensorSpec
from tritium.core.errors import InvalidArgument
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.request import InferResponse
from tritium.core.tensor import Tensor


class IdentityBackend:
    """Opens identity instances; see `contract.TensorBackend`."""

    name = "identity"

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:  # noqa: ARG002  contract
        """Return the configuration as it is: an identity model has nothing but its configuration."""
        return config

    async def open(
        self,
        source: ModelSource,
        place: InstancePlace,
        host: BackendHost,  # noqa: ARG002  the contract's; an identity model asks nothing of the server
    ) -> "IdentityInstance":
        """Make an instance.

        Raises:
            InvalidArgument: inputs and outputs are not pairs, or a parameter is not a number.
        """
        if place.kind == "GPU":
            raise InvalidArgument("'identity' backend only supports CPU instances")
        config = source.config
        delay_s = _number(config, "execute_delay_ms") / 1000
        multiplier = _number(config, "instance_wise_delay_multiplier")
        if multiplier:
            delay_s *= max(1, _ordinal(place.name) * multiplier)
        instance = IdentityInstance(place.name, config.name, source.version, _pairs(config), delay_s)
        await asyncio.sleep(_number(config, "creation_delay_sec"))
        return instance


class IdentityInstance:
    """Answers every request with its own inputs; see `core.instance.Instance`."""

    healthy = True

    def __init__(self, name: str, model: str, version: str, pairs: dict[str, str], delay_s: float) -> None:
        self.name = name
        self.depth = 1
        self._model = model
        self._version = version
        self._pairs = pairs
        self._delay_s = delay_s

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes | None:
        """Answer a batch, after the configured delay."""
        start_ns = time.monotonic_ns()
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        infer_ns = time.monotonic_ns()
        pairs = self._pairs
        for job in jobs:
            outputs = [
                Tensor(pairs[tensor.name], tensor.datatype, tensor.shape, tensor.data)
                for tensor in job.request.inputs
                if tensor.name in pairs
            ]
            job.reply.send(InferResponse(self._model, self._version, outputs=outputs), final=True)
        return ExecutionTimes(0, infer_ns - start_ns, time.monotonic_ns() - infer_ns)

    async def close(self) -> None:
        """Hold nothing, free nothing."""


def _pairs(config: ModelConfig) -> dict[str, str]:
    """Return the output of each input by name, in Triton's words where they do not pair up."""
    if len(config.inputs) != len(config.outputs):
        raise InvalidArgument("model configuration must have equal input/output pairs")
    inputs = {_index(spec, "INPUT", "input"): spec for spec in config.inputs.values()}
    pairs: dict[str, str] = {}
    for output in config.outputs.values():
        source = inputs.get(_index(output, "OUTPUT", "output"))
        if source is None:
            raise InvalidArgument("expected input and output indices to match")
        if source.datatype != output.datatype:
            raise InvalidArgument(
                f"expected input and output datatype to match, got {source.datatype} and {output.datatype}"
            )
        if _model_shape(source) != _model_shape(output):
            raise InvalidArgument(
                "expected input and output shape to match, got "
                f"{list(_model_shape(source))} and {list(_model_shape(output))}"
            )
        pairs[source.name] = output.name
    return pairs


def _index(spec: TensorSpec, prefix: str, what: str) -> str:
    if not spec.name.startswith(prefix):
        raise InvalidArgument(f"expected {what} name to follow {prefix}<index> pattern, got '{spec.name}'")
    return spec.name[len(prefix) :]


def _model_shape(spec: TensorSpec) -> tuple[int, ...]:
    return spec.dims if spec.reshape is None else spec.reshape


def _number(config: ModelConfig, name: str) -> int:
    text = config.parameter(name, "0")
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(
            f"model '{config.name}': parameter '{name}' must be a whole number, got '{text}'"
        ) from None


def _ordinal(instance_name: str) -> int:
    """Return the number at the end of an instance's name."""
    tail = instance_name.rpartition("_")[2]
    return int(tail) if tail.isdigit() else 0
