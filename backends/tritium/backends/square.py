"""The square backend: a decoupled model that answers the number n with n responses, each of them n.

For trying and testing streams. `parameters` as in Triton's square backend: CUSTOM_INFER_DELAY_NS before each
response, CUSTOM_OUTPUT_DELAY_NS within it, CUSTOM_CANCEL_DELAY_NS once the request is cancelled; the last
CUSTOM_EMPTY_COUNT responses are left out, and the CUSTOM_FAIL_COUNT before them are errors.
"""

import asyncio
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.trial import TrialBackend
from tritium.compat.config.model import ModelConfig, TensorSpec
from tritium.core.errors import Cancelled, InvalidArgument, Unknown
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.request import InferResponse
from tritium.core.tensor import Tensor


class SquareBackend(TrialBackend):
    """Opens square instances; see `contract.TensorBackend`."""

    name = "square"

    async def open(
        self,
        source: ModelSource,
        place: InstancePlace,
        host: BackendHost,  # noqa: ARG002  the contract's; a square model asks nothing of the server
    ) -> "SquareInstance":
        """Make an instance.

        Raises:
            InvalidArgument: the tensors are not those of a square model.
        """
        _check(source.config)
        return SquareInstance(place.name, source.config, source.version)


@dataclass(frozen=True, slots=True)
class _Pace:
    """How slowly, and how unsuccessfully, a model answers."""

    infer_s: float
    output_s: float
    cancel_s: float
    failing: int
    empty: int


class SquareInstance:
    """Streams n responses to n; see `core.instance.Instance`."""

    healthy = True

    def __init__(self, name: str, config: ModelConfig, version: str) -> None:
        self.name = name
        self.depth = 1
        self._config = config
        self._version = version
        self._pace = _Pace(
            _number(config, "CUSTOM_INFER_DELAY_NS") / 1e9,
            _number(config, "CUSTOM_OUTPUT_DELAY_NS") / 1e9,
            _number(config, "CUSTOM_CANCEL_DELAY_NS") / 1e9,
            _number(config, "CUSTOM_FAIL_COUNT"),
            _number(config, "CUSTOM_EMPTY_COUNT"),
        )
        self._streams: set[asyncio.Task[None]] = set()

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes | None:
        """Start the streams of a batch."""
        start_ns = time.monotonic_ns()
        streams = []
        for job in jobs:
            if job.batch_size > 1:
                job.reply.send(InvalidArgument("unexpected shape for IN input"), final=True)
            else:
                streams.append(asyncio.create_task(self._stream(job)))
        for stream in streams:
            self._streams.add(stream)
            stream.add_done_callback(self._streams.discard)
        if streams and not self._config.decoupled:
            await asyncio.wait(streams)
        return ExecutionTimes(0, time.monotonic_ns() - start_ns, 0)

    async def close(self) -> None:
        """Wait for the streams that have not ended."""
        if self._streams:
            await asyncio.wait(self._streams)

    async def _stream(self, job: Job) -> None:
        given, pace = job.request.input("IN"), self._pace
        assert given is not None, "the configuration asks for it"
        (count,) = struct.unpack("<i", given.data)
        for index in range(count):
            if job.request.cancelled:
                await asyncio.sleep(pace.cancel_s)
                job.reply.send(Cancelled("cancelled"), final=True)
                return
            await asyncio.sleep(pace.infer_s)
            if index + pace.empty >= count:
                continue
            job.request.output_began_ns = time.monotonic_ns()
            if pace.output_s:
                await asyncio.sleep(pace.output_s)
            if index + pace.failing + pace.empty >= count:
                job.reply.send(Unknown("simulated failure"), final=False)
            else:
                outputs = [Tensor("OUT", "INT32", given.shape, bytes(given.data))]
                job.reply.send(InferResponse(self._config.name, self._version, outputs=outputs), final=False)
        job.reply.send(None, final=True)


def _check(config: ModelConfig) -> None:
    """Refuse a configuration that is not a square model's, in Triton's words."""
    for what, specs, name in (("input", config.inputs, "IN"), ("output", config.outputs, "OUT")):
        if len(specs) != 1:
            raise InvalidArgument(f"expected 1 {what}, got {len(specs)}")
        if name not in specs:
            raise InvalidArgument(f"expected first {what} tensor name to be {name}, got {next(iter(specs))}")
    for spec in (config.inputs["IN"], config.outputs["OUT"]):
        if spec.dims != (1,):
            raise InvalidArgument(f"expected {spec.name} shape to be [1], got {_dims(spec)}")
    for spec in (config.inputs["IN"], config.outputs["OUT"]):
        if spec.datatype != "INT32":
            raise InvalidArgument(f"expected {spec.name} datatype to be INT32, got TYPE_{spec.datatype}")


def _dims(spec: TensorSpec) -> str:
    return "[" + ",".join(map(str, spec.dims)) + "]"


def _number(config: ModelConfig, name: str) -> int:
    """Return a parameter that is a number; as in Triton, what is none counts as 0."""
    text = config.parameter(name, "0")
    return int(text) if text.isascii() and text.isdigit() else 0
