"""Fakes that run: a clock that stands still, instances that wait to be let go, replies that keep what they get."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from google.protobuf import text_format

from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import InferenceError
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.request import InferRequest, InferResponse, RequestedOutput
from tritium.core.tensor import Tensor

ADD_SUB = """
    input [ { name: "INPUT0" data_type: TYPE_FP32 dims: 4 }, { name: "INPUT1" data_type: TYPE_FP32 dims: 4 } ]
    output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: 4 }, { name: "OUTPUT1" data_type: TYPE_FP32 dims: 4 } ]
"""


def config(pbtxt: str, name: str = "add_sub") -> ModelConfig:
    """Return the configuration that the text stands for."""
    proto = text_format.Parse(pbtxt, model_config_pb2.ModelConfig(name=name, backend="fake"))
    return from_proto(proto)


def tensor(name: str, shape: Sequence[int], datatype: str = "FP32", data: bytes | None = None) -> Tensor:
    """Return a tensor of four-byte zeros, or of the given bytes."""
    count = 1
    for dim in shape:
        count *= dim
    return Tensor(name, datatype, tuple(shape), bytes(4 * count) if data is None else data)


def request(*inputs: Tensor, outputs: Sequence[str] = (), **fields: object) -> InferRequest:
    """Return a request with these inputs."""
    asked = [RequestedOutput(name) for name in outputs]
    return InferRequest("add_sub", inputs=list(inputs), outputs=asked, **fields)  # type: ignore[arg-type]


class VirtualClock:
    """A clock that moves when told to, and rings what comes due on the way."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self._now_ns = now_ns
        self.alarms: list[_Alarm] = []

    def now_ns(self) -> int:
        return self._now_ns

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self._now_ns // 1_000_000

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> "_Alarm":
        alarm = _Alarm(when_ns, callback)
        self.alarms.append(alarm)
        return alarm

    def advance(self, ns: int) -> None:
        """Let time pass, ringing alarms in order."""
        end_ns = self._now_ns + ns
        while due := sorted((a for a in self.alarms if a.live and a.when_ns <= end_ns), key=lambda a: a.when_ns):
            self._now_ns = max(self._now_ns, due[0].when_ns)
            due[0].live = False
            due[0].callback()
        self._now_ns = end_ns


@dataclass
class _Alarm:
    when_ns: int
    callback: Callable[[], None]
    live: bool = True

    def cancel(self) -> None:
        self.live = False


@dataclass
class Collector:
    """A reply that keeps what it is sent."""

    items: list[InferResponse | InferenceError] = field(default_factory=list)
    final: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        assert not self.final.is_set(), "nothing may follow the final response"
        if response is not None:
            self.items.append(response)
        if final:
            self.final.set()

    async def all(self) -> list[InferResponse | InferenceError]:
        """Return every response once the last is there."""
        await asyncio.wait_for(self.final.wait(), 60)
        return self.items

    async def one(self) -> InferResponse | InferenceError:
        """Return the only response."""
        (item,) = await self.all()
        return item


Behaviour = Callable[[Job], list[Tensor] | InferenceError]


def echo(job: Job) -> list[Tensor]:
    """Answer INPUTn with OUTPUTn."""
    return [
        Tensor(t.name.replace("INPUT", "OUTPUT"), t.datatype, t.shape, t.data)
        for t in job.request.inputs
        if t.name.startswith("INPUT")
    ]


class FakeInstance:
    """Executes what it is given, at once or when let go; keeps the batches it saw."""

    def __init__(
        self, behaviour: Behaviour = echo, *, held: bool = False, depth: int = 1, name: str = "fake_0"
    ) -> None:
        self.name = name
        self.depth = depth
        self.healthy = True
        self.batches: list[list[Job]] = []
        self.closed = False
        self.started = asyncio.Condition()
        self._behaviour = behaviour
        self._gate = asyncio.Event()
        if not held:
            self._gate.set()

    def release(self) -> None:
        """Let executions go on."""
        self._gate.set()

    def hold(self) -> None:
        """Keep executions from now on until `release`."""
        self._gate.clear()

    async def seen(self, batches: int) -> None:
        """Wait until this many batches have arrived."""
        async with asyncio.timeout(60), self.started:
            await self.started.wait_for(lambda: len(self.batches) >= batches)

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes | None:
        self.batches.append(list(jobs))
        async with self.started:
            self.started.notify_all()
        await self._gate.wait()
        for job in jobs:
            answer = self._behaviour(job)
            if isinstance(answer, InferenceError):
                job.reply.send(answer, final=True)
            else:
                job.reply.send(InferResponse("", "", outputs=answer), final=True)
        return ExecutionTimes(1_000, 2_000, 3_000)

    async def close(self) -> None:
        self.closed = True


class PromptFakeInstance(FakeInstance):
    """The same, without the runner's tasks: it calls back when an execution has ended."""

    def begin(self, jobs: Sequence[Job], done: Callable[[ExecutionTimes | None], None]) -> None:
        """Run one batch."""
        task = asyncio.ensure_future(self.execute(jobs))
        task.add_done_callback(lambda ended: done(ended.result()))


class Streaming:
    """A decoupled instance: answers every request with as many responses as its input's first byte says."""

    name, depth, healthy = "stream_0", 1, True

    async def execute(self, jobs: list[Job]) -> ExecutionTimes:
        for job in jobs:
            for index in range(job.request.inputs[0].data[0]):
                out = Tensor("OUTPUT0", "FP32", (4,), bytes([index] * 16))
                job.reply.send(InferResponse("", "", outputs=[out]), final=False)
            job.reply.send(None, final=True)
        return ExecutionTimes(1, 1, 1)

    async def close(self) -> None:
        pass
