"""Warming a model up: the sample requests of its configuration, run on every instance before the first client's.

model_warmup, warmup/FILE -> samples -> each instance, `count` times -> ready | InvalidArgument

The requests skip the scheduler, so that the model sees a sample as it is written, control tensors included; they
are in no statistics. Source: GenerateWarmupData and WarmUp in core/src/backend_model_instance.cc.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from tritium.backends.contract import ModelSource
from tritium.compat.config import messages
from tritium.compat.config.warmup import DATA_FOLDER
from tritium.compat.datatypes import BY_CONFIG_VALUE, Datatype
from tritium.core.errors import InferenceError, InvalidArgument
from tritium.core.instance import Instance, Job
from tritium.core.request import InferRequest, InferResponse
from tritium.core.reshape import Reshape
from tritium.core.tensor import Buffer, Tensor

log = structlog.get_logger("tritium")


@dataclass(frozen=True, slots=True)
class Sample:
    """One entry of model_warmup: a batch of `batch_size` requests of these inputs, run `count` times."""

    name: str
    count: int
    batch_size: int
    inputs: Sequence[Tensor]


class _Reply:
    """Waits for the last response to one request, and remembers its error."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self.error = ""

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        if isinstance(response, InferenceError):
            self.error = response.message
        if final and not self.ended.done():
            self.ended.set_result(None)


async def warm_up(source: ModelSource, instances: Sequence[Instance]) -> None:
    """Run every sample of a model on every instance, the instances side by side.

    Raises:
        InvalidArgument: a sample's data is missing or too short, or the model failed it.
    """
    if source.config.proto.model_warmup:
        samples = await asyncio.to_thread(read_samples, source)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_warm(source, instance, samples)) for instance in instances]
        if failed := next(filter(None, (task.result() for task in tasks)), ""):
            raise InvalidArgument(failed)


async def _warm(source: ModelSource, instance: Instance, samples: Sequence[Sample]) -> str:
    """Run the samples on one instance; return why one failed, or nothing."""
    for sample in samples:
        for iteration in range(1, sample.count + 1):
            log.debug(messages.warming_up(source.config.name, instance.name, sample.name, iteration))
            replies = [_Reply() for _ in range(sample.batch_size)]
            jobs = [Job(_request(source, sample), reply) for reply in replies]
            await instance.execute(jobs)
            await asyncio.gather(*(reply.ended for reply in replies))
            if errors := [reply.error for reply in replies if reply.error]:
                return messages.warmup_failed(sample.name, errors)
    return ""


def _request(source: ModelSource, sample: Sample) -> InferRequest:
    return InferRequest(source.config.name, source.version, inputs=list(sample.inputs))


def read_samples(source: ModelSource) -> list[Sample]:
    """Make the samples of a model; those of batch size 0 are left out, as Triton does.

    Raises:
        InvalidArgument: a file is missing or too short.
    """
    reshape = Reshape(source.config)
    samples = []
    for warmup in source.config.proto.model_warmup:
        if warmup.batch_size:
            tensors = [_tensor(source, name, warmup.inputs[name]) for name in warmup.inputs]
            samples.append(Sample(warmup.name, max(1, warmup.count), warmup.batch_size, reshape.inputs(tensors)))
    return samples


def _tensor(source: ModelSource, name: str, spec: Any) -> Tensor:
    kind = BY_CONFIG_VALUE[spec.data_type]
    shape = (1, *spec.dims) if source.config.batches else tuple(spec.dims)
    elements = math.prod(spec.dims)
    if spec.WhichOneof("input_data_type") == "input_data_file":
        data: Buffer = _read(source.folder / DATA_FOLDER / spec.input_data_file, kind, elements)
    elif spec.WhichOneof("input_data_type") == "random_data" and kind.fixed:
        data = _random(kind, elements)
    else:
        # Strings are four bytes of length each: zeros are empty strings.
        data = bytes(elements * (kind.size_bytes or 4))
    return Tensor(name, kind.name, shape, data)


def _read(file: Path, kind: Datatype, elements: int) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"failed to open text file for read {file}: {error.strerror}") from None
    wanted = elements * kind.size_bytes
    if len(data) < wanted:
        raise InvalidArgument(messages.warmup_too_short(wanted, file.name, len(data)))
    return data[:wanted] if kind.fixed else data


def _random(kind: Datatype, elements: int) -> bytes:
    """Return random values that are numbers: the bits of a random float may well be none."""
    random = np.random.default_rng()
    if kind.name == "BF16":
        return (random.random(elements, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    if kind.numpy.kind == "f":
        return random.random(elements).astype(kind.numpy).tobytes()
    if kind.numpy.kind == "b":
        return random.integers(0, 2, elements, np.uint8).tobytes()
    return random.bytes(elements * kind.size_bytes)
