"""One ONNX instance: a batch of requests stacked, run, and split again.

Inputs are views of the requests' bytes where a batch is one request; outputs are views of what onnxruntime returned.
Long runs happen in the instance's thread (onnxruntime lets go of the interpreter lock), short ones in place.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tritium.backends.onnxruntime.graph import Graph
from tritium.backends.onnxruntime.pace import Pace
from tritium.backends.onnxruntime.session import run_options, runtime
from tritium.backends.onnxruntime.values import from_ort_value, to_array, to_ort_value
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InferenceError, ModelFailed
from tritium.core.implicit_state import outputs_made
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.ragged import RaggedBatches, Shape
from tritium.core.request import InferResponse
from tritium.core.stack import split, stack
from tritium.core.tensor import Tensor, from_array


class Loaded:
    """A session with its signature and what is known of its runs; lives as long as an instance uses it."""

    def __init__(self, session: Any, graph: Graph) -> None:
        self.session = session
        self.graph = graph
        self.pace = Pace()


class OnnxInstance:
    """Executes batches on a session; see `core.instance.Instance`."""

    healthy = True

    def __init__(self, name: str, config: ModelConfig, version: str, loaded: Loaded) -> None:
        graph = loaded.graph
        self.name = name
        self.depth = 1
        self._model = config.name
        self._version = version
        self._batches = config.batches
        self._ragged = RaggedBatches(config)
        self._loaded = loaded
        self._pace = loaded.pace
        self._run_options = run_options(config)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._scalar_inputs = {port.name for port in graph.inputs.values() if not port.dims}
        self._scalar_outputs = {n: spec.dims for n, spec in config.outputs.items() if not graph.outputs[n].dims}
        self._outputs = {name: graph.outputs[name].datatype for name in outputs_made(config)}
        ports = (*graph.inputs.values(), *graph.outputs.values())
        self._by_ort_value = any(port.datatype == "BF16" for port in ports)

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes | None:
        """Run one batch and answer its requests."""
        start_ns = time.monotonic_ns()
        try:
            inputs = self._stacked(jobs)
            wanted = _wanted(jobs, self._outputs)
            size_bytes = sum(tensor.size_bytes for tensor in inputs)
            input_ns = time.monotonic_ns()
            if self._pace.short(size_bytes):
                outputs, took_ns = self._run(inputs, wanted)
            else:
                loop = asyncio.get_running_loop()
                outputs, took_ns = await loop.run_in_executor(self._thread, self._run, inputs, wanted)
            self._pace.learn(size_bytes, took_ns)
            infer_ns = time.monotonic_ns()
            shares = self._shares(outputs, jobs)
        except InferenceError as error:
            for job in jobs:
                job.reply.send(error, final=True)
            return None
        for job, share in zip(jobs, shares, strict=True):
            job.reply.send(InferResponse(self._model, self._version, outputs=share), final=True)
        return ExecutionTimes(input_ns - start_ns, infer_ns - input_ns, time.monotonic_ns() - infer_ns)

    async def close(self) -> None:
        """Wait for the run under way and end the thread."""
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    def _stacked(self, jobs: Sequence[Job]) -> list[Tensor]:
        if self._ragged.any:
            columns = {t.name: [_input(job, t.name) for job in jobs] for t in jobs[0].request.inputs}
            joined = [self._ragged.join(name, tensors) for name, tensors in columns.items()]
            return joined + self._ragged.made({name: [t.shape for t in ts] for name, ts in columns.items()})
        if len(jobs) == 1:
            return jobs[0].request.inputs
        names = [tensor.name for tensor in jobs[0].request.inputs]
        return [stack([_input(job, name) for job in jobs]) for name in names]

    def _run(self, inputs: Sequence[Tensor], names: Sequence[str]) -> tuple[list[Tensor], int]:
        """Run the graph, on whichever thread; return its outputs and how long it took."""
        if self._by_ort_value:
            feed = {tensor.name: to_ort_value(runtime(), tensor, self._model) for tensor in inputs}
            run = self._loaded.session.run_with_ort_values
        else:
            feed = {tensor.name: to_array(tensor, self._model) for tensor in inputs}
            for name in self._scalar_inputs:
                feed[name] = feed[name].reshape(())
            run = self._loaded.session.run
        start_ns = time.monotonic_ns()
        try:
            values = run(names, feed, self._run_options)
        except Exception as error:
            # onnxruntime's errors share no base class.
            raise ModelFailed(
                f"onnx runtime error for model '{self._model}': {' '.join(str(error).split())}"
            ) from error
        took_ns = time.monotonic_ns() - start_ns
        read = from_ort_value if self._by_ort_value else from_array
        return [read(name, value, self._outputs[name]) for name, value in zip(names, values, strict=True)], took_ns

    def _shares(self, outputs: Sequence[Tensor], jobs: Sequence[Job]) -> list[list[Tensor]]:
        """Return each job's outputs."""
        for tensor in outputs:
            if tensor.name in self._scalar_outputs:
                tensor.shape = self._scalar_outputs[tensor.name]
        if not self._batches:
            return [list(outputs)]
        sizes = [job.batch_size for job in jobs]
        columns = [self._split(tensor, sizes, jobs) for tensor in outputs]
        return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in jobs]

    def _split(self, tensor: Tensor, sizes: Sequence[int], jobs: Sequence[Job]) -> list[Tensor]:
        source = self._ragged.source(tensor.name)
        if not source:
            return split(tensor, sizes)
        shapes: list[Shape] = [_input(job, source).shape for job in jobs]
        return self._ragged.scatter(tensor, shapes)


def _input(job: Job, name: str) -> Tensor:
    tensor = job.request.input(name)
    assert tensor is not None, "the scheduler batches only requests with the same inputs"
    return tensor


def _wanted(jobs: Sequence[Job], outputs: Mapping[str, str]) -> list[str]:
    """Return the outputs that any of the jobs asks for, in the order of the configuration."""
    asked: set[str] = set()
    for job in jobs:
        if not job.request.outputs:
            return list(outputs)
        asked.update(output.name for output in job.request.outputs)
    return [name for name in outputs if name in asked]
