"""Sequences from submit to reply: controls, order, and idle time."""

import asyncio
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest

from tritium.core.errors import Cancelled, InvalidArgument, Unavailable
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.request import InferRequest, InferResponse, SequenceStep
from tritium.core.tensor import Tensor
from tritium.core.tensor_model import TensorModel


def submit(fakes: ModuleType, model: TensorModel, request: InferRequest) -> Any:
    """Submit a request and return its reply."""
    reply = fakes.Collector()
    model.submit(request, reply)
    return reply


def step(
    fakes: ModuleType, model: TensorModel, id_: int, *, data: bytes = bytes(4), start: bool = False, end: bool = False
) -> Any:
    """Submit one request of a sequence and return its reply."""
    shape = [1, 1] if model.config.batches else [1]
    tensor = fakes.tensor("INPUT0", shape, "INT32", data)
    return submit(fakes, model, fakes.request(tensor, sequence=SequenceStep(id_, start, end)))


ACCUMULATE = """max_batch_size: 8
    sequence_batching { max_sequence_idle_microseconds: 1000000 control_input [
        { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } },
        { name: "END" control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 5, 6 ] } },
        { name: "READY" control { kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ] } },
        { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } } ] }
    input { name: "INPUT0" data_type: TYPE_INT32 dims: 1 } output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 1 }"""


async def test_sequences_reach_the_model_with_their_controls(fakes: ModuleType) -> None:
    """Each request carries the control tensors; a sequence stays on its instance, in order."""
    instances = [fakes.FakeInstance(), fakes.FakeInstance()]
    model = TensorModel(fakes.config(ACCUMULATE), "1", instances)
    flags = [(True, False), (False, False), (False, True)]
    replies = [
        submit(
            fakes,
            model,
            fakes.request(fakes.tensor("INPUT0", [1, 1], "INT32"), sequence=SequenceStep(id_, start, end)),
        )
        for start, end in flags
        for id_ in (42, 43)
    ]
    for reply in replies:
        assert isinstance(await reply.one(), InferResponse)
    for instance in instances:
        given = [{t.name: t for t in batch[0].request.inputs} for batch in instance.batches]
        assert [
            (int(g["START"].array()[0, 0]), int(g["END"].array()[0, 0]), bool(g["READY"].array()[0, 0])) for g in given
        ] == [(1, 5, True), (0, 5, True), (0, 6, True)]
        assert len({int(g["ID"].array()[0, 0]) for g in given}) == 1
        assert given[0]["START"].datatype == "FP32"


async def test_wrong_sequence_requests_are_no_failures_of_the_model(fakes: ModuleType) -> None:
    """A request that does not start its sequence is refused in Triton's words and not counted."""
    model = TensorModel(fakes.config(ACCUMULATE, "accum"), "1", [fakes.FakeInstance()])
    given = fakes.request(fakes.tensor("INPUT0", [1, 1], "INT32"), sequence=SequenceStep(900))
    error = await submit(fakes, model, given).one()
    assert isinstance(error, InvalidArgument)
    assert error.message == (
        "inference request for sequence 900 to model 'accum' must specify the START flag on the first request of the "
        "sequence"
    )
    assert (model.statistics.fail.count, model.statistics.pending) == (0, 0)


async def test_idle_sequences_end_by_the_clock(fakes: ModuleType) -> None:
    """A sequence that waits for a slot gets it when another has been idle for too long."""
    clock = fakes.VirtualClock()
    instance = fakes.FakeInstance()
    pbtxt = ACCUMULATE.replace("max_batch_size: 8", "max_batch_size: 1").replace("1000000", "1000")
    model = TensorModel(fakes.config(pbtxt), "1", [instance], clock=clock)
    await step(fakes, model, 1, start=True).one()
    waiting = step(fakes, model, 2, start=True)
    await asyncio.sleep(0)
    assert len(instance.batches) == 1
    clock.advance(1_000_000)
    await waiting.one()


async def test_a_freed_slot_passes_over_sequences_whose_clients_have_gone(fakes: ModuleType) -> None:
    """They are answered, not seated, however many wait, when the sequence before them has been idle for too long."""
    clock = fakes.VirtualClock()
    instance = fakes.FakeInstance()
    pbtxt = ACCUMULATE.replace("max_batch_size: 8", "max_batch_size: 1").replace("1000000", "1000")
    model = TensorModel(fakes.config(pbtxt), "1", [instance], clock=clock)
    await step(fakes, model, 1, start=True).one()
    tensor = fakes.tensor("INPUT0", [1, 1], "INT32")
    gone = [fakes.request(tensor, sequence=SequenceStep(id_, start=True)) for id_ in (2, 3)]
    replies = [submit(fakes, model, request) for request in gone]
    for request in gone:
        request.cancel()
    clock.advance(1_000_000)
    for reply in replies:
        assert isinstance(await reply.one(), Cancelled)
    assert isinstance(await step(fakes, model, 4, start=True).one(), InferResponse)
    assert len(instance.batches) == 2


async def test_freed_slots_of_other_instances_are_used(fakes: ModuleType) -> None:
    """Where one instance is waiting for company, a sequence moves into a slot of another that has become idle."""
    clock = fakes.VirtualClock()
    instances = [fakes.FakeInstance(), fakes.FakeInstance()]
    pbtxt = ACCUMULATE.replace("max_batch_size: 8", "max_batch_size: 1").replace("1000000", "1000")
    model = TensorModel(fakes.config(pbtxt), "1", instances, clock=clock)
    await asyncio.gather(*(step(fakes, model, id_, start=True).one() for id_ in (1, 2)))
    clock.advance(600_000)
    await step(fakes, model, 1).one()
    waiting = step(fakes, model, 3, start=True)
    clock.advance(500_000)
    await waiting.one()
    assert [len(instance.batches) for instance in instances] == [2, 2]


async def test_direct_batches_keep_the_places_of_sequences(fakes: ModuleType) -> None:
    """A sequence without a request has a null request in its place: not ready, nothing in its tensors."""
    instance = fakes.FakeInstance()
    model = TensorModel(fakes.config(ACCUMULATE), "1", [instance])
    first = [step(fakes, model, id_, start=True) for id_ in (5, 6)]
    for reply in first:
        await reply.one()
    assert isinstance(await step(fakes, model, 6, data=b"\x07\0\0\0", end=True).one(), InferResponse)
    null, real = ({t.name: t for t in job.request.inputs} for job in instance.batches[1])
    assert [int(null[name].array()[0, 0]) for name in ("START", "END", "READY", "ID", "INPUT0")] == [0, 5, 0, 0, 0]
    assert [int(real[name].array()[0, 0]) for name in ("START", "END", "READY", "ID", "INPUT0")] == [0, 6, 1, 6, 7]
    statistics = model.statistics
    assert (statistics.inference_count, statistics.execution_count, set(statistics.batches)) == (3, 2, {2})
    assert statistics.pending == 0


ITERATIVE = """max_batch_size: 1 sequence_batching { max_sequence_idle_microseconds: 1000000 iterative_sequence: true }
    input { name: "INPUT0" data_type: TYPE_INT32 dims: 1 } output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 1 }"""


class Countdown:
    """An instance that wants every request as often as its first byte says, and answers the last time."""

    name, depth, healthy = "countdown_0", 1, True

    def __init__(self) -> None:
        self.seen: list[tuple[int | str, bool]] = []
        self._left: dict[int | str, int] = {}

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes:
        for job in jobs:
            sequence = job.request.sequence
            self.seen.append((sequence.correlation_id, sequence.start))
            left = self._left.pop(sequence.correlation_id, job.request.inputs[0].data[0]) - 1
            if left:
                self._left[sequence.correlation_id] = left
                job.again = True
            else:
                job.reply.send(InferResponse("", "", outputs=[]), final=True)
        return ExecutionTimes(1, 1, 1)

    async def close(self) -> None:
        """Hold nothing."""


async def test_iterative_requests_run_until_their_instance_lets_go(fakes: ModuleType) -> None:
    """Requests become sequences of their own, take turns, and are counted once; executions are all counted."""
    instance = Countdown()
    model = TensorModel(fakes.config(ITERATIVE), "1", [instance])
    requests = [fakes.request(fakes.tensor("INPUT0", [1, 1], "INT32", bytes([n, 0, 0, 0]))) for n in (3, 1)]
    replies = [submit(fakes, model, request) for request in requests]
    for reply in replies:
        assert isinstance(await reply.one(), InferResponse)
    assert sorted(instance.seen) == [(1, False), (1, False), (1, True), (2, True)]
    assert [tensor.name for tensor in requests[0].inputs] == ["INPUT0"]
    assert (model.statistics.success.count, model.statistics.execution_count, model.statistics.pending) == (2, 4, 0)
    await model.close()


async def test_only_iterative_models_may_run_requests_again(fakes: ModuleType) -> None:
    """Elsewhere a request that its instance asks for again is failed in Triton's words."""
    plain = ITERATIVE.replace("iterative_sequence: true", "")
    batching = "sequence_batching { max_sequence_idle_microseconds: 1000000 iterative_sequence: true }"
    assert batching in ITERATIVE
    for pbtxt in (plain, ITERATIVE.replace(batching, "dynamic_batching { }")):
        model = TensorModel(fakes.config(pbtxt), "1", [Countdown()])
        reply = step(fakes, model, 1, data=bytes([2, 0, 0, 0]), start=True)
        error = await reply.one()
        assert isinstance(error, InvalidArgument)
        assert error.message.startswith("Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while")
        assert model.statistics.fail.count == 1


async def test_iterations_end_with_an_idle_sequence(fakes: ModuleType) -> None:
    """A request that comes back after its sequence has been idle for too long cannot go on."""
    clock = fakes.VirtualClock()
    instance = Countdown()
    pbtxt = ITERATIVE.replace("1000000", "1000")
    model = TensorModel(fakes.config(pbtxt), "1", [instance], clock=clock)

    async def slow(jobs: Sequence[Job]) -> ExecutionTimes:
        clock.advance(2_000_000)
        return await Countdown.execute(instance, jobs)

    instance.execute = slow  # type: ignore[method-assign]  # the same instance, slower
    error = await step(fakes, model, 0, data=bytes([2, 0, 0, 0])).one()
    assert isinstance(error, InvalidArgument)
    assert "must specify the START flag on the first request of the sequence" in error.message


STATE = """sequence_batching { max_sequence_idle_microseconds: 1000000 {strategy} state [
        { input_name: "STATE_IN" output_name: "STATE_OUT" data_type: TYPE_INT32 dims: 1 {initial} } ] }
    input { name: "INPUT0" data_type: TYPE_INT32 dims: 1 } output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 1 }"""


def add_up(job: Job) -> list[Tensor]:
    """Answer with the sum so far, which is the state."""
    inputs = {tensor.name: tensor for tensor in job.request.inputs}
    total = int(inputs["STATE_IN"].array().sum() + inputs["INPUT0"].array().sum())
    asked = {output.name for output in job.request.outputs} or {"OUTPUT0", "STATE_OUT"}
    shape, data = inputs["INPUT0"].shape, total.to_bytes(4, "little")
    return [Tensor(name, "INT32", shape, data) for name in ("OUTPUT0", "STATE_OUT") if name in asked]


@pytest.mark.parametrize("strategy", ["direct { }", "oldest { max_candidate_sequences: 2 }"])
async def test_the_server_keeps_the_state_of_sequences(fakes: ModuleType, strategy: str) -> None:
    """A model sees what it made of the last request, one state a sequence; clients see nothing of it."""
    pbtxt = "max_batch_size: 2 " + STATE.replace("{strategy}", strategy).replace("{initial}", "")
    model = TensorModel(fakes.config(pbtxt), "1", [fakes.FakeInstance(add_up)])
    sums = []
    for id_, value, start in ((1, 1, True), (2, 10, True), (1, 2, False), (2, 20, False), (1, 5, True), (1, 1, False)):
        reply = step(fakes, model, id_, data=bytes([value, 0, 0, 0]), start=start)
        (output,) = (await reply.one()).outputs
        assert output.name == "OUTPUT0"
        sums.append(int(output.array()[0, 0]))
    assert sums == [1, 10, 3, 30, 5, 6]


async def test_states_start_as_configured(fakes: ModuleType) -> None:
    """A state starts out from the file's content; one that the configuration lists as an output clients may see."""
    initial = 'initial_state: { name: "i" data_type: TYPE_INT32 dims: 1 data_file: "x" }'
    pbtxt = STATE.replace("{strategy}", "").replace("{initial}", initial)
    pbtxt += 'output { name: "STATE_OUT" data_type: TYPE_INT32 dims: 1 }'
    files = {"STATE_IN": b"\x64\0\0\0"}
    model = TensorModel(fakes.config(pbtxt), "1", [fakes.FakeInstance(add_up)], initial_states=files)
    for outputs, shown in (
        ((), ["OUTPUT0", "STATE_OUT"]),
        (("OUTPUT0",), ["OUTPUT0"]),
        (("STATE_OUT",), ["STATE_OUT"]),
    ):
        tensor = fakes.tensor("INPUT0", [1], "INT32", b"\x02\0\0\0")
        request = fakes.request(tensor, outputs=outputs, sequence=SequenceStep(1, start=True))
        response = await submit(fakes, model, request).one()
        assert [output.name for output in response.outputs] == shown
        assert {int(output.array()[0]) for output in response.outputs} == {102}


async def test_a_model_is_unloaded_although_sequences_go_on(fakes: ModuleType) -> None:
    """What a live sequence has asked for is answered; what comes later is refused, and nothing waits for an END."""
    instance = fakes.FakeInstance(held=True)
    model = TensorModel(fakes.config(ACCUMULATE), "1", [instance])
    asked = [step(fakes, model, 1, start=True), step(fakes, model, 1)]
    await instance.seen(1)
    closing = asyncio.ensure_future(model.close())
    await asyncio.sleep(0)
    late = await step(fakes, model, 1, end=True).one()
    assert isinstance(late, Unavailable)
    instance.release()
    for reply in asked:
        assert isinstance(await reply.one(), InferResponse)
    await asyncio.wait_for(closing, 60)
    assert instance.closed


async def test_cancelled_steps_end_their_sequence_in_the_model(fakes: ModuleType) -> None:
    """A cancelled step and those behind it are answered as cancelled, and the slot serves the next sequence."""
    instance = fakes.FakeInstance(held=True)
    pbtxt = ACCUMULATE.replace("max_batch_size: 8", "max_batch_size: 1")
    model = TensorModel(fakes.config(pbtxt), "1", [instance])
    tensor = fakes.tensor("INPUT0", [1, 1], "INT32")
    first = step(fakes, model, 1, start=True)
    await instance.seen(1)
    request = fakes.request(tensor, sequence=SequenceStep(1))
    lost = [submit(fakes, model, request), step(fakes, model, 1)]
    following = step(fakes, model, 2, start=True)
    request.cancel()
    instance.release()
    assert isinstance(await first.one(), InferResponse)
    assert [type(await reply.one()) for reply in lost] == [Cancelled, Cancelled]
    assert isinstance(await following.one(), InferResponse)
    assert (model.statistics.failures, model.statistics.pending) == ({"CANCELED": 2}, 0)


async def test_responses_of_the_oldest_strategy_keep_their_order(fakes: ModuleType) -> None:
    """With preserve_ordering a later batch's response waits for an earlier one's, also from another instance."""
    slow, fast = fakes.FakeInstance(held=True), fakes.FakeInstance()
    pbtxt = ACCUMULATE.replace(
        "max_sequence_idle_microseconds: 1000000",
        "max_sequence_idle_microseconds: 1000000 oldest { max_candidate_sequences: 1 preserve_ordering: true }",
    )
    model = TensorModel(fakes.config(pbtxt), "1", [slow, fast])
    replies = [step(fakes, model, id_, start=True) for id_ in (1, 2)]
    await slow.seen(1)
    await fast.seen(1)
    assert not replies[1].final.is_set()
    slow.release()
    for reply in replies:
        await reply.one()


async def test_states_of_iterative_requests_are_asked_for_once(fakes: ModuleType) -> None:
    """However often a request runs, its instance is asked for the client's outputs and the states, and for no more."""
    pbtxt = STATE.replace("{strategy}", "iterative_sequence: true").replace("{initial}", "")
    instance = Countdown()
    model = TensorModel(fakes.config(pbtxt), "1", [instance])
    tensor = fakes.tensor("INPUT0", [1], "INT32", bytes([4, 0, 0, 0]))
    request = fakes.request(tensor, outputs=["OUTPUT0"])
    assert isinstance(await submit(fakes, model, request).one(), InferResponse)
    assert len(instance.seen) == 4
    assert [output.name for output in request.outputs] == ["OUTPUT0", "STATE_OUT"]
    assert [tensor.name for tensor in request.inputs] == ["INPUT0", "STATE_IN"]
