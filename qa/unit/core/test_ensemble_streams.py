"""Ensembles whose member streams faster than the next step takes, for a client that leaves."""

import asyncio
import gc
from types import ModuleType

from tritium.core.ensemble import EnsembleModel
from tritium.core.errors import Cancelled
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.request import InferRequest, InferResponse
from tritium.core.tensor import Tensor
from tritium.core.tensor_model import TensorModel

INPUT = 'input { name: "INPUT0" data_type: TYPE_FP32 dims: 4 } '
OUTPUT = 'output { name: "OUTPUT0" data_type: TYPE_FP32 dims: 4 } '
STREAM = f"""{INPUT} {OUTPUT}
    ensemble_scheduling {{ max_inflight_requests: 1 step [
        {{ model_name: "endless" input_map {{ key: "INPUT0" value: "INPUT0" }}
          output_map {{ key: "OUTPUT0" value: "many" }} }},
        {{ model_name: "next" input_map {{ key: "INPUT0" value: "many" }}
          output_map {{ key: "OUTPUT0" value: "OUTPUT0" }} }} ] }}"""


class Endless:
    """A decoupled instance that has sent a hundred responses and goes on until it is told to end."""

    name, depth, healthy = "endless_0", 1, True

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def execute(self, jobs: list[Job]) -> ExecutionTimes:
        for _ in range(100):
            out = Tensor("OUTPUT0", "FP32", (4,), bytes(16))
            jobs[0].reply.send(InferResponse("", "", outputs=[out]), final=False)
        await self.ended.wait()
        jobs[0].reply.send(None, final=True)
        return ExecutionTimes(1, 1, 1)

    async def close(self) -> None:
        pass


def requests_alive() -> int:
    """Count the requests that something still holds."""
    gc.collect()
    return sum(type(one) is InferRequest for one in gc.get_objects())


async def test_a_cancelled_stream_lets_go_of_what_has_piled_up(fakes: ModuleType) -> None:
    """Although its member streams on, the requests that waited for the next step are gone."""
    endless, held = Endless(), fakes.FakeInstance(held=True)
    decoupled = f"model_transaction_policy {{ decoupled: true }} {INPUT} {OUTPUT}"
    members = {
        "endless": TensorModel(fakes.config(decoupled, "endless"), "1", [endless]),
        "next": TensorModel(fakes.config(INPUT + OUTPUT, "next"), "1", [held]),
    }
    model = EnsembleModel(fakes.config(STREAM, "ens"), "1", lambda name, _version: members[name])
    request = InferRequest("ens", inputs=[fakes.tensor("INPUT0", [4])])
    reply = fakes.Collector()
    before = requests_alive()
    model.submit(request, reply)
    await held.seen(1)
    assert requests_alive() - before >= 100
    request.cancel()
    assert isinstance(await reply.one(), Cancelled)
    held.release()
    await asyncio.sleep(0)
    assert requests_alive() - before < 10
    endless.ended.set()
    await model.close()


class Held:
    """A decoupled instance that notes when it is to wait; the test sends for it."""

    name, depth, healthy = "held_0", 1, True

    def __init__(self) -> None:
        self.holds: list[bool] = []
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self.job: Job | None = None

    async def execute(self, jobs: list[Job]) -> ExecutionTimes:
        self.job = jobs[0]
        self.job.request.hold = self.holds.append
        self.begun.set()
        await self.ended.wait()
        self.job.reply.send(None, final=True)
        return ExecutionTimes(1, 1, 1)

    def send(self) -> None:
        assert self.job is not None
        out = Tensor("OUTPUT0", "FP32", (4,), bytes(16))
        self.job.reply.send(InferResponse("", "", outputs=[out]), final=False)

    async def close(self) -> None:
        pass


async def test_a_member_waits_while_the_next_step_is_full(fakes: ModuleType) -> None:
    """It is held once a response of its waits at the gate, and let go when none does any more, or when all is over."""
    member, taker = Held(), fakes.FakeInstance(held=True)
    decoupled = f"model_transaction_policy {{ decoupled: true }} {INPUT} {OUTPUT}"
    members = {
        "endless": TensorModel(fakes.config(decoupled, "endless"), "1", [member]),
        "next": TensorModel(fakes.config(INPUT + OUTPUT, "next"), "1", [taker]),
    }
    model = EnsembleModel(fakes.config(STREAM, "ens"), "1", lambda name, _version: members[name])
    request = InferRequest("ens", inputs=[fakes.tensor("INPUT0", [4])])
    reply = fakes.Collector()
    model.submit(request, reply)
    await asyncio.wait_for(member.begun.wait(), 60)
    member.send()
    await taker.seen(1)
    assert member.holds == [], "there was room for the first"
    member.send()
    assert member.holds == [True]
    taker.release()
    await taker.seen(2)
    assert member.holds == [True, False]
    taker.hold()
    member.send()
    member.send()
    assert member.holds == [True, False, True]
    request.cancel()
    assert member.holds == [True, False, True, False]
    taker.release()
    member.ended.set()
    await model.close()
