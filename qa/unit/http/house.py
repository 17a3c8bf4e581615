"""Small models that compute in this process, and a catalog of them: what the front-ends are tested against.

The queue, the checks and the answers are those of the server (`core.tensor_model`); only what executes is local.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import numpy as np

from tritium.compat.config.defaults import complete_backend, complete_instances, normalize
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.config.parse import parse_text
from tritium.core.catalog import IndexEntry, LoadParameters
from tritium.core.errors import (
    AlreadyExists,
    Cancelled,
    InferenceError,
    Internal,
    InvalidArgument,
    ModelFailed,
    NotFound,
    Unavailable,
    Unknown,
    Unsupported,
)
from tritium.core.instance import ExecutionTimes
from tritium.core.model import State
from tritium.core.request import InferResponse
from tritium.core.tensor import from_array
from tritium.core.tensor_model import TensorModel

CODES = (Unknown, Internal, NotFound, InvalidArgument, Unavailable, Unsupported, AlreadyExists, Cancelled)


async def add_sub(inputs, request):
    yield {"OUTPUT0": inputs["INPUT0"] + inputs["INPUT1"], "OUTPUT1": inputs["INPUT0"] - inputs["INPUT1"]}


async def identity(inputs, request):
    yield {name.replace("IN", "OUT", 1): array for name, array in inputs.items()}


async def first(inputs, request):
    """Answers INPUT0 as OUTPUT0, whatever their order."""
    yield {"OUTPUT0": inputs["INPUT0"]}


async def boom(inputs, request):
    raise RuntimeError("boom in execute")
    yield {}


async def coded(inputs, request):
    code = int(inputs["INPUT0"].flat[0])
    yield CODES[code](f"coded {CODES[code].__name__}") if code >= 0 else Internal("plain error")


async def repeat(inputs, request):
    """Answers COUNT times, with an error in place ERR_AT."""
    error_at = int(inputs["ERR_AT"][0]) if "ERR_AT" in inputs else -1
    for index in range(int(inputs["COUNT"][0])):
        if index == error_at:
            yield Unknown(f"error at {index}")
        else:
            yield {"OUT": np.array([index], "i4"), "TEXT": np.array([f"tok{index} ".encode()], object)}


async def words(inputs, request):
    """Answers the words of the text, one response each where `stream` is set, and all parameters it was given."""
    text = inputs["text_input"].flat[0].decode().split()
    text += [f"{key}={value}" for key, value in sorted(request.parameters.items())]
    if "stream" in inputs and inputs["stream"].flat[0]:
        for word in text:
            yield {"text_output": np.array([word.encode()], object)}
    else:
        yield {"text_output": np.array([" ".join(text).encode()], object)}


async def patient(inputs, request):
    """Answers once the request is cancelled, and not before."""
    cancelled = asyncio.Event()
    request.on_cancel(cancelled.set)
    await cancelled.wait()
    yield Cancelled("request has been cancelled")


ADD_SUB = """
input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: {dims} }}, {{ name: "INPUT1" data_type: TYPE_FP32 dims: {dims} }} ]
output [
  {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: {dims} label_filename: "labels.txt" }},
  {{ name: "OUTPUT1" data_type: TYPE_FP32 dims: {dims} }}
]
"""
ONE = """
input {{ name: "INPUT0" data_type: {kind} dims: {dims} }}
output {{ name: "OUTPUT0" data_type: {kind} dims: {dims} }}
"""
REPEAT = """
model_transaction_policy { decoupled: true }
input [
  { name: "COUNT" data_type: TYPE_INT32 dims: 1 },
  { name: "ERR_AT" data_type: TYPE_INT32 dims: 1 optional: true }
]
output [ { name: "OUT" data_type: TYPE_INT32 dims: 1 }, { name: "TEXT" data_type: TYPE_STRING dims: 1 } ]
"""
WORDS = """
model_transaction_policy { decoupled: true }
input [
  { name: "text_input" data_type: TYPE_STRING dims: 1 },
  { name: "stream" data_type: TYPE_BOOL dims: 1 optional: true },
  { name: "max_tokens" data_type: TYPE_INT32 dims: 1 optional: true }
]
output { name: "text_output" data_type: TYPE_STRING dims: -1 }
"""
TYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
TYPES += ("FP16", "FP32", "FP64", "STRING", "BF16")
ALL_TYPES = "".join(
    f'input {{ name: "IN_{t}" data_type: TYPE_{t} dims: -1 optional: true }}\n'
    f'output {{ name: "OUT_{t}" data_type: TYPE_{t} dims: -1 }}\n'
    for t in TYPES
)

MODELS = {
    "add_sub": (add_sub, ADD_SUB.format(dims=4)),
    "add_sub_16": (add_sub, ADD_SUB.format(dims=16)),
    "add_sub_batch": (add_sub, "max_batch_size: 64\ndynamic_batching {}" + ADD_SUB.format(dims=4)),
    "all_types": (identity, ALL_TYPES),
    "boom": (boom, ADD_SUB.format(dims=4)),
    "coded": (coded, ADD_SUB.format(dims=4)),
    "identity_fp32": (first, ONE.format(kind="TYPE_FP32", dims=-1)),
    "identity_string": (first, ONE.format(kind="TYPE_STRING", dims=-1)),
    "identity_string_batch": (first, "max_batch_size: 8" + ONE.format(kind="TYPE_STRING", dims=-1)),
    "one_string": (first, ONE.format(kind="TYPE_STRING", dims=1)),
    "patient": (patient, ONE.format(kind="TYPE_FP32", dims=-1)),
    "patient_stream": (
        patient,
        "model_transaction_policy { decoupled: true }" + ONE.format(kind="TYPE_FP32", dims=-1),
    ),
    "repeat": (repeat, REPEAT),
    "several": (repeat, REPEAT.replace("decoupled: true", "decoupled: false")),
    "words": (words, WORDS),
}
VERSIONS = {"add_sub_16": ("1", "3")}
LABELS = ("zero", "one", "two", "three")


class Computing:
    """An instance that runs a function of arrays; see `core.instance.Instance`."""

    healthy = True

    def __init__(self, name, function: Callable[..., AsyncIterator], datatypes: dict[str, str], decoupled):
        self.name = name
        self.depth = 64
        self._function = function
        self._datatypes = datatypes
        self._decoupled = decoupled

    async def execute(self, jobs):
        start_ns = time.monotonic_ns()
        await asyncio.gather(*map(self._run, jobs))
        return ExecutionTimes(0, time.monotonic_ns() - start_ns, 0)

    async def _run(self, job):
        inputs = {tensor.name: tensor.array() for tensor in job.request.inputs}
        try:
            async for answer in self._function(inputs, job.request):
                job.reply.send(self._response(answer), final=not self._decoupled)
        except RuntimeError as error:
            job.reply.send(ModelFailed(str(error)), final=True)
        else:
            if self._decoupled:
                job.reply.send(None, final=True)

    def _response(self, answer):
        if isinstance(answer, InferenceError):
            return answer
        outputs = [from_array(name, array, self._datatypes[name]) for name, array in answer.items()]
        return InferResponse("", "", outputs=outputs)

    async def close(self):
        pass


@functools.cache
def configuration(name: str) -> ModelConfig:
    """Read a model's configuration and complete it, as the repository does."""
    parsed = parse_text(f'name: "{name}"\nbackend: "python"\n{MODELS[name][1]}', name)
    assert not parsed.problems
    complete_backend(parsed.message, name, ["model.py"])
    normalize(parsed.message)
    complete_instances(parsed.message)
    return from_proto(parsed.message)


@dataclass
class House:
    """A catalog of models that are there from the start; loading and unloading are written down."""

    loaded: dict[str, dict[str, TensorModel]] = field(default_factory=dict)
    ready: bool = True
    asked: list[tuple] = field(default_factory=list)
    explicit: bool = True

    def add(self, name: str) -> None:
        function, _ = MODELS[name]
        config = configuration(name)
        datatypes = {spec.name: spec.datatype for spec in config.outputs.values()}
        self.loaded[name] = {
            version: TensorModel(
                config, version, [Computing(f"{name}_0_0", function, datatypes, function is repeat or config.decoupled)]
            )
            for version in VERSIONS.get(name, ("1",))
        }

    def model(self, name, version=""):
        versions = self.loaded.get(name)
        if versions is None:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        if not version:
            return versions[max(versions, key=int)]
        if version not in versions:
            raise NotFound(f"Request for unknown model: '{name}' version {version} is not found")
        return versions[version]

    def models(self):
        return [model for versions in self.loaded.values() for model in versions.values()]

    def versions(self, name):
        return sorted(self.loaded.get(name, ()), key=int)

    def index(self, *, ready_only=False):
        entries = [IndexEntry(model.name, model.version, State.READY) for model in self.models()]
        if not ready_only:
            entries.append(IndexEntry("broken"))
            entries.append(IndexEntry("gone", "1", State.UNAVAILABLE, "unloaded"))
        return entries

    async def load(self, name, parameters: LoadParameters):
        if not self.explicit:
            raise Unavailable("explicit model load / unload is not allowed if polling is enabled")
        if name == "nope":
            raise Internal("failed to load 'nope', failed to poll from model repository")
        self.asked.append(("load", name, parameters))

    async def unload(self, name, *, dependents=False):
        self.asked.append(("unload", name, dependents))

    async def close(self):
        for model in self.models():
            await model.close()


def house(*names: str) -> House:
    """Open a house of the named models, or of all; on the event loop that will serve them."""
    made = House()
    for name in names or MODELS:
        made.add(name)
    return made


def labels(model, output):
    """The labels of every output that has a label file."""
    return LABELS if model.config.outputs[output].label_filename else ()
