"""ModelStreamInfer against a real port, on our transport and on grpcio's."""

import asyncio

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from tritium.core import replies

FINAL = "triton_final_response"


def repeat(count, error_at=None, request_id="", **parameters):
    values = {"COUNT": count} | ({} if error_at is None else {"ERR_AT": error_at})
    request = pb.ModelInferRequest(model_name="repeat", id=request_id)
    for name, value in values.items():
        request.inputs.add(name=name, datatype="INT32", shape=[1])
        request.raw_input_contents.append(np.array([value], "<i4").tobytes())
    for name, value in parameters.items():
        request.parameters[name].bool_param = value
    return request


def add_sub(model="add_sub", request_id=""):
    request = pb.ModelInferRequest(model_name=model, id=request_id, raw_input_contents=[b"\0" * 16] * 2)
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="FP32", shape=[4])
    return request


def patient(model="patient_stream"):
    request = pb.ModelInferRequest(model_name=model, id="patient", raw_input_contents=[b"\0" * 4])
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[1])
    return request


async def answers(stub, *requests, **how):
    return [item async for item in stub.ModelStreamInfer(iter(requests), **how)]


def final(item):
    return item.infer_response.parameters[FINAL].bool_param


async def test_a_decoupled_model_answers_as_often_as_it_likes(stub):
    """Each response says that it is not the final one; the end is told only on request."""
    items = await answers(stub, repeat(3, request_id="a"))
    assert [(item.infer_response.id, final(item)) for item in items] == [("a", False)] * 3
    assert [item.infer_response.raw_output_contents[1] for item in items] == [
        b"\5\0\0\0tok%d " % index for index in range(3)
    ]
    assert await answers(stub, repeat(0)) == []


async def test_the_end_is_told_on_request(stub):
    """An empty response with the model's name, the request's id, and the flag."""
    items = await answers(stub, repeat(1, request_id="a", triton_enable_empty_final_response=True))
    last = pb.ModelInferResponse(model_name="repeat", id="a")
    last.parameters[FINAL].bool_param = True
    assert (len(items), items[1].infer_response) == (2, last)


async def test_a_model_that_is_not_decoupled_answers_once_and_finally(stub):
    """Also when the empty final response was asked for."""
    request = add_sub(request_id="1")
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    (item,) = await answers(stub, request)
    assert (item.infer_response.id, final(item)) == ("1", True)


async def test_answers_come_in_the_order_of_the_requests(stub):
    """Of models that answer once; an error waits for its turn like any answer."""
    requests = [add_sub(request_id="0"), add_sub("nope", "1"), add_sub("boom", "2"), add_sub(request_id="3")]
    items = await answers(stub, *requests * 10)
    assert [item.infer_response.id for item in items] == ["0", "1", "2", "3"] * 10


async def test_an_error_in_the_middle_is_an_item(stub):
    """The stream goes on after it."""
    items = await answers(stub, repeat(3, error_at=1, request_id="x"))
    assert [item.error_message for item in items] == ["", "error at 1", ""]
    assert (items[1].infer_response.model_name, items[1].infer_response.id, final(items[1])) == ("repeat", "x", False)


async def test_a_request_that_never_ran_names_only_itself(stub):
    """An unknown model, a missing input: the item has the id alone. The stream goes on."""
    incomplete = add_sub(request_id="q")
    del incomplete.inputs[1], incomplete.raw_input_contents[1]
    unknown, missing, good = await answers(stub, add_sub("nope", "1"), incomplete, add_sub(request_id="2"))
    assert unknown == pb.ModelStreamInferResponse(
        error_message="Request for unknown model: 'nope' is not found", infer_response=pb.ModelInferResponse(id="1")
    )
    assert missing.error_message.startswith("[request id: q] expected 2 inputs but got 1 inputs")
    assert missing.infer_response == pb.ModelInferResponse(id="q")
    assert good.infer_response.model_name == "add_sub"


async def test_a_model_that_raises_is_an_item(stub):
    """It was the final word on that request."""
    (item,) = await answers(stub, add_sub("boom", "r"))
    assert (item.error_message, item.infer_response.model_name, final(item)) == ("boom in execute", "boom", True)


@pytest.mark.parametrize(
    ("request_", "code"),
    [(add_sub("nope"), "NOT_FOUND"), (add_sub("boom"), "INTERNAL"), (repeat(2, error_at=1), "UNKNOWN")],
)
async def test_a_client_may_want_errors_as_the_streams_status(stub, request_, code):
    """`triton_grpc_error: true` ends the stream with the first error, whatever still runs."""
    call = stub.ModelStreamInfer(metadata=(("triton_grpc_error", "true"),))
    await call.write(patient())
    # The one that fails comes last: grpcio's asyncio client forgets the status when it is still writing.
    await call.write(request_)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        [item async for item in call]
    assert raised.value.code() is grpc.StatusCode[code]


async def test_an_error_ends_the_stream_while_others_still_run(stub, watched):
    """Also when the client has sent its last; what still runs is cancelled."""
    _, cancelled = watched("patient_stream")
    with pytest.raises(grpc.aio.AioRpcError):
        await answers(stub, patient(), add_sub("boom"), metadata=(("triton_grpc_error", "true"),), timeout=5)
    async with asyncio.timeout(60):
        await cancelled.wait()


async def test_bytes_that_are_no_message_end_the_stream(channel):
    """There is no request to answer."""
    call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        [item async for item in call(iter([b"\xff\xff\xff"]))]
    assert raised.value.code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("model", ["patient_stream", "patient"])
async def test_a_cancelled_stream_cancels_its_requests(stub, watched, model):
    """Decoupled or not, the model is told."""
    submitted, cancelled = watched(model)
    stream = stub.ModelStreamInfer(iter([patient(model)]))
    async with asyncio.timeout(60):
        await submitted.wait()
        stream.cancel()
        await cancelled.wait()


async def test_answers_come_while_the_client_still_sends(stub):
    """The stream is open both ways: each answer may decide the next request."""
    stream = stub.ModelStreamInfer()
    async with asyncio.timeout(60):
        for index in range(5):
            await stream.write(add_sub(request_id=str(index)))
            assert (await stream.read()).infer_response.id == str(index)
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


async def test_a_slow_reader_gets_everything(stub):
    """More responses than any buffer holds are waited for, not lost."""
    stream = stub.ModelStreamInfer(iter([repeat(3000)]))
    count = 0
    async with asyncio.timeout(60):
        while await stream.read() is not grpc.aio.EOF:
            count += 1
    assert count == 3000


async def test_a_client_that_does_not_read_is_given_up(stub, monkeypatch):
    """What waits for one client is bounded: the stream ends with an error that says so."""
    monkeypatch.setattr(replies, "UNREAD_BYTES", 1 << 16)
    monkeypatch.setattr(replies, "MOST_UNREAD_BYTES", 2 << 16)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await answers(stub, repeat(60_000))
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "the client reads too slowly" in raised.value.details()


@pytest.mark.parametrize(("count", "numbers"), [(1, [0]), (4, [0]), (0, [])])
async def test_a_model_that_is_not_decoupled_has_one_response(stub, count, numbers):
    """Of what such a model sends beyond it, nothing is passed on."""
    request = repeat(count)
    request.model_name = "several"
    items = await answers(stub, request)
    assert [int.from_bytes(item.infer_response.raw_output_contents[0], "little") for item in items] == numbers


async def test_a_stream_takes_nothing_new_from_a_server_that_leaves(stub, watched, listeners):
    """What comes once the shutdown has begun is refused as an item; what came before may end."""
    submitted, _ = watched("patient_stream")
    call = stub.ModelStreamInfer()
    await call.write(patient())
    await asyncio.wait_for(submitted.wait(), 60)
    leaving = asyncio.ensure_future(listeners[0].close(grace_s=5))
    await asyncio.sleep(0)
    await call.write(add_sub(request_id="late"))
    item = await asyncio.wait_for(call.read(), 60)
    assert item.error_message == "GRPC server is shutting down and has stopped accepting new requests."
    assert item.infer_response.id == "late"
    call.cancel()
    await asyncio.wait_for(leaving, 60)
