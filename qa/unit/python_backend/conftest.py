"""Models written in the test itself, run for real: each in its process, reached through the Instance contract."""

import asyncio
import gc
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.python.backend import PythonBackend
from tritium.backends.python.instance import PythonInstance
from tritium.compat.config.model import from_proto
from tritium.compat.config.parse import parse_text
from tritium.core.errors import InferenceError
from tritium.core.instance import Job
from tritium.core.replies import SingleReply, StreamReply
from tritium.core.request import InferRequest, InferResponse
from tritium.core.tensor import from_array

PATIENCE_S = 60

ANY_FP32 = """
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""

IDENTITY = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor(t.name().replace("IN", "OUT", 1), t.as_numpy()) for t in request.inputs()
            ])
            for request in requests
        ]
"""


def tensor(name: str, value, datatype: str = "FP32"):
    dtype = {"FP32": np.float32, "INT32": np.int32, "BYTES": np.object_}[datatype]
    return from_array(name, np.array(value, dtype), datatype)


async def until(condition) -> None:
    """Wait until `condition()`; another process brings it about."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.001)


class Stream(StreamReply):
    """A reply of any length whose parts can be waited for one by one."""

    def __init__(self, request: InferRequest) -> None:
        super().__init__()
        self.request = request
        self._iterator = aiter(self)

    async def next(self):
        return await asyncio.wait_for(anext(self._iterator, None), PATIENCE_S)

    async def rest(self) -> list[InferResponse | InferenceError]:
        async with asyncio.timeout(PATIENCE_S):
            return [item async for item in self._iterator]


@dataclass
class Served:
    """An instance of a model and the shortest way to ask it."""

    instance: PythonInstance
    name: str
    tasks: set = field(default_factory=set)

    def request(self, *values, **fields) -> InferRequest:
        inputs = [
            value if hasattr(value, "datatype") else tensor(f"INPUT{index}", value)
            for index, value in enumerate(values)
        ]
        return InferRequest(self.name, inputs=inputs, **fields)

    def submit(self, *requests: InferRequest) -> list["asyncio.Future[InferResponse]"]:
        """Run requests as one batch; the futures resolve to their responses."""
        replies = [SingleReply(asyncio.get_running_loop()) for _ in requests]
        self.start([Job(*pair) for pair in zip(requests, replies, strict=True)])
        return [reply.future for reply in replies]

    def start(self, jobs: list[Job]) -> asyncio.Task:
        task = asyncio.ensure_future(self.instance.execute(jobs))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def infer(self, *values, **fields) -> InferResponse:
        (future,) = self.submit(self.request(*values, **fields))
        return await asyncio.wait_for(future, PATIENCE_S)

    async def ask(self, *values, **fields):
        """Return the one output as an array."""
        (output,) = (await self.infer(*values, **fields)).outputs
        return output.array()

    def stream(self, *values) -> Stream:
        """Run one request; its responses are waited for in the stream."""
        (reply,) = self.streams(*values)
        return reply

    def streams(self, *values) -> list[Stream]:
        """Run a request for each value, as one batch."""
        replies = [Stream(self.request(value)) for value in values]
        self.start([Job(reply.request, reply) for reply in replies])
        return replies


@pytest.fixture
def tools():
    """Names that tests share."""

    class Tools:
        until = staticmethod(until)
        any_fp32 = ANY_FP32
        identity = IDENTITY
        patience_s = PATIENCE_S

        @staticmethod
        def gone(pid: int) -> bool:
            """Tell whether a process has ended, waited for or not."""
            try:
                return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] == "Z"
            except FileNotFoundError:
                return True

    return Tools


@pytest.fixture
def write_model(tmp_path, nothing_left):
    """Write a model and return where it is."""

    def write(code: str, config: str = ANY_FP32, name: str = "m", folder: Path = tmp_path) -> ModelSource:
        home = folder / name
        (home / "1").mkdir(parents=True, exist_ok=True)
        if code:
            (home / "1" / "model.py").write_text(textwrap.dedent(code).lstrip())
        parsed = parse_text(f'name: "{name}"\nbackend: "python"\n{config}', f"{home}/config.pbtxt")
        assert not parsed.problems, parsed.problems
        return ModelSource(from_proto(parsed.message), home, "1")

    return write


@pytest.fixture
async def serve(write_model):
    """Open instances of models given as code; they are closed, and looked after for what they leave, at the end."""
    served = []

    async def open_one(
        code: str,
        config: str = ANY_FP32,
        name: str = "m",
        files: dict[str, str] | None = None,
        place: str = "",
        **host,
    ) -> Served:
        source = write_model(code, config, name)
        for path, text in (files or {}).items():
            (source.version_folder / path).write_text(text)
        where = InstancePlace(place or f"{name}_0_0")
        instance = await asyncio.wait_for(PythonBackend().open(source, where, BackendHost(**host)), PATIENCE_S)
        served.append(Served(instance, name))
        return served[-1]

    yield open_one
    for one in served:
        await asyncio.wait_for(one.instance.close(), PATIENCE_S)


@pytest.fixture
def nothing_left():
    """After the test: no process, shared memory or descriptor of one that was not there before."""
    gc.collect()
    descriptors, children = _left()
    yield
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        gc.collect()
        still, new = _left()[0] - descriptors, _left()[1] - children
        if still <= 0 and not new:  # what an earlier test left may have gone meanwhile
            return
        assert time.monotonic() < deadline_s, (still, new)
        time.sleep(0.01)


def _left() -> tuple[int, set[str]]:
    links = [_link(fd) for fd in Path("/proc/self/fd").iterdir()]
    children = set()
    for task in Path("/proc/self/task").iterdir():
        children |= set((task / "children").read_text().split())
    return sum("memfd:tritium" in link or "pidfd" in link for link in links), children


def _link(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except FileNotFoundError:
        return ""
