"""The repeat backend: a decoupled model that sends the elements of IN one by one, each after its own delay.

For trying and testing streams. After DELAY[i] milliseconds comes response i, with OUT = IN[i] and IDX = i; after WAIT
milliseconds the instance takes the next request, whether or not all responses of this one are out.
"""

import asyncio
import struct
import time
from collections.abc import Sequence

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.trial import TrialBackend
from tritium.compat.config.model import ModelConfig, TensorSpec
from tritium.core.errors import Cancelled, InvalidArgument
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.request import InferRequest, InferResponse
from tritium.core.tensor import Tensor

_INPUTS = {"IN": "INT32", "DELAY": "UINT32", "WAIT": "UINT32"}
_OUTPUTS = {"OUT": "INT32", "IDX": "UINT32"}
_ORDINALS = ("first", "second", "third")


class RepeatBackend(TrialBackend):
    """Opens repeat instances; see `contract.TensorBackend`."""

    name = "repeat"

    async def open(
        self,
        source: ModelSource,
        place: InstancePlace,
        host: BackendHost,  # noqa: ARG002  the contract's; a repeat model asks nothing of the server
    ) -> "RepeatInstance":
        """Make an instance.

        Raises:
            InvalidArgument: the tensors are not those of a repeat model.
        """
        _check(source.config)
        return RepeatInstance(place.name, source.config, source.version)


class RepeatInstance:
    """Streams the elements of its requests; see `core.instance.Instance`."""

    healthy = True

    def __init__(self, name: str, config: ModelConfig, version: str) -> None:
        self.name = name
        self.depth = 1
        self._config = config
        self._version = version
        self._streams: set[asyncio.Task[None]] = set()

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes | None:
        """Start the streams of a batch, and wait for as long as its last request asks."""
        start_ns = time.monotonic_ns()
        wait_s = 0.0
        streams = []
        for job in jobs:
            try:
                elements, delays_s = _elements(job.request)
            except InvalidArgument as error:
                job.reply.send(error, final=True)
                continue
            wait_s = _words(job.request, "WAIT", "I")[0] / 1000
            streams.append(asyncio.create_task(self._stream(job, elements, delays_s)))
        for stream in streams:
            self._streams.add(stream)
            stream.add_done_callback(self._streams.discard)
        await asyncio.sleep(wait_s)
        if streams and not self._config.decoupled:
            await asyncio.wait(streams)
        return ExecutionTimes(0, time.monotonic_ns() - start_ns, 0)

    async def close(self) -> None:
        """Wait for the streams that have not ended."""
        if self._streams:
            await asyncio.wait(self._streams)

    async def _stream(self, job: Job, elements: Sequence[int], delays_s: Sequence[float]) -> None:
        for index, (element, delay_s) in enumerate(zip(elements, delays_s, strict=True)):
            await asyncio.sleep(delay_s)
            if job.request.cancelled:
                job.reply.send(Cancelled("the request was cancelled"), final=True)
                return
            outputs = [
                Tensor("OUT", "INT32", (1,), struct.pack("<i", element)),
                Tensor("IDX", "UINT32", (1,), struct.pack("<I", index)),
            ]
            job.reply.send(InferResponse(self._config.name, self._version, outputs=outputs), final=False)
        job.reply.send(None, final=True)


def _elements(request: InferRequest) -> tuple[Sequence[int], Sequence[float]]:
    """Return the elements of a request and how long to wait before each, in seconds."""
    elements = _words(request, "IN", "i")
    delays_ms = _words(request, "DELAY", "I")
    if len(elements) != len(delays_ms):
        raise InvalidArgument(
            f"expected IN and DELAY shape to match, got [{len(elements)}] and [{len(delays_ms)}]",
            hint="there is a delay for each element",
        )
    return elements, [delay_ms / 1000 for delay_ms in delays_ms]


def _words(request: InferRequest, name: str, code: str) -> tuple[int, ...]:
    tensor = request.input(name)
    assert tensor is not None, "the configuration asks for it"
    return struct.unpack(f"<{tensor.size_bytes // 4}{code}", tensor.data)


def _check(config: ModelConfig) -> None:
    """Refuse a configuration that is not a repeat model's, in Triton's words."""
    if config.batches:
        raise InvalidArgument("repeat backend only supports models with max_batch_size == 0")
    for what, specs, wanted in (("input", config.inputs, _INPUTS), ("output", config.outputs, _OUTPUTS)):
        if len(specs) != len(wanted):
            raise InvalidArgument(f"expected {len(wanted)} {what}s, got {len(specs)}")
        for ordinal, name, spec in zip(_ORDINALS, wanted, specs.values(), strict=False):
            if spec.name != name:
                raise InvalidArgument(f"expected {ordinal} {what} tensor name to be {name}, got {spec.name}")
    elements, delays = config.inputs["IN"], config.inputs["DELAY"]
    if len(elements.dims) != 1:
        raise InvalidArgument(f"expected IN shape to have one dimension, got {_dims(elements)}")
    if elements.dims != delays.dims:
        raise InvalidArgument(f"expected IN and DELAY shape to match, got {_dims(elements)} and {_dims(delays)}")
    for spec in (config.inputs["WAIT"], *config.outputs.values()):
        if spec.dims != (1,):
            raise InvalidArgument(f"expected {spec.name} shape to be [1], got {_dims(spec)}")
    for spec in (*config.inputs.values(), *config.outputs.values()):
        datatype = {**_INPUTS, **_OUTPUTS}[spec.name]
        if spec.datatype != datatype:
            raise InvalidArgument(f"expected {spec.name} datatype to be {datatype}, got TYPE_{spec.datatype}")


def _dims(spec: TensorSpec) -> str:
    return "[" + ",".join(map(str, spec.dims)) + "]"
