"""Sequences from submit to reply: controls, order, and idle time."""

import asyncio
from types import ModuleType

from tritium.core.errors import InvalidArgument
from tritium.core.request import InferRequest, InferResponse, SequenceStep
from tritium.core.tensor_model import TensorModel


def submit(fakes: ModuleType, model: TensorModel, request: InferRequest) -> object:
    """Submit a request and return its reply."""
    reply = fakes.Collector()
    model.submit(request, reply)
    return reply


ACCUMULATE = """max_batch_size: 8
    sequence_batching { max_sequence_idle_microseconds: 1000 control_input [
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
    without = ',\n        { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }'
    assert without in ACCUMULATE
    pbtxt = ACCUMULATE.replace(without, "")
    model = TensorModel(fakes.config(pbtxt), "1", [instance], clock=clock)

    def step(correlation_id: int) -> object:
        tensor = fakes.tensor("INPUT0", [1, 1], "INT32")
        return submit(fakes, model, fakes.request(tensor, sequence=SequenceStep(correlation_id, start=True)))

    await step(1).one()
    waiting = step(2)
    await asyncio.sleep(0)
    assert len(instance.batches) == 1
    clock.advance(1_000_000)
    await waiting.one()
