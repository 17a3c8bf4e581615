"""The unary calls against a real port, on our transport and on grpcio's."""

import asyncio

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from tritium.core import check
from tritium.core.bytes_walk import LONG_BYTES
from tritium.core.tensor import join_bytes

FOUR = np.array([1, 2, 3, 4], "<f4").tobytes()
ONES = np.ones(4, "<f4").tobytes()


def add_sub(model="add_sub", raw=(FOUR, ONES), **fields):
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=raw, **fields)
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="FP32", shape=[4])
    return request


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details()


async def test_inference(stub):
    """Every output is raw, under the version that ran."""
    assert await stub.ModelInfer(add_sub(id="7")) == pb.ModelInferResponse(
        model_name="add_sub",
        model_version="1",
        id="7",
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(name="OUTPUT0", datatype="FP32", shape=[4]),
            pb.ModelInferResponse.InferOutputTensor(name="OUTPUT1", datatype="FP32", shape=[4]),
        ],
        raw_output_contents=[
            np.array([2, 3, 4, 5], "<f4").tobytes(),
            np.array([0, 1, 2, 3], "<f4").tobytes(),
        ],
    )


async def test_versions(stub):
    """The newest, unless one is named."""
    for version, ran in (("", "3"), ("1", "1"), ("03", "3")):
        request = pb.ModelInferRequest(
            model_name="add_sub_16", model_version=version, raw_input_contents=[FOUR * 4] * 2
        )
        for name in ("INPUT0", "INPUT1"):
            request.inputs.add(name=name, datatype="FP32", shape=[16])
        assert (await stub.ModelInfer(request)).model_version == ran


async def test_classes(stub):
    """A classified output is strings."""
    request = add_sub()
    request.outputs.add(name="OUTPUT0").parameters["classification"].int64_param = 2
    response = await stub.ModelInfer(request)
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == ("BYTES", [2])
    assert response.raw_output_contents[0] == b"\x10\0\0\x005.000000:3:three\x0e\0\0\x004.000000:2:two"


def with_parameter(name, **choice):
    request = add_sub()
    request.parameters[name].CopyFrom(pb.InferParameter(**choice))
    return request


def with_output(name):
    request = add_sub()
    request.outputs.add(name=name)
    return request


CODE = grpc.StatusCode
NO_NUMBER = (
    "failed to get model version from specified version string 'abc' (details: stol), "
    "version should be an integral value > 0"
)


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (add_sub("nope"), CODE.NOT_FOUND, "Request for unknown model: 'nope' is not found"),
        (add_sub(model_version="9"), CODE.NOT_FOUND, "Request for unknown model: 'add_sub' version 9 is not found"),
        (
            add_sub(model_version="abc"),
            CODE.INVALID_ARGUMENT,
            NO_NUMBER,
        ),
        (
            add_sub(model_version="-3"),
            CODE.INVALID_ARGUMENT,
            "invalid model version specified '-3' , version should be an integral value > 0",
        ),
        (
            add_sub("repeat"),
            CODE.UNIMPLEMENTED,
            "ModelInfer RPC doesn't support models with decoupled transaction policy",
        ),
        (
            add_sub(raw=[FOUR]),
            CODE.INVALID_ARGUMENT,
            "unable to find data for input tensor 'INPUT1' for model 'add_sub' in request.",
        ),
        (
            with_parameter("timeout", string_param="1"),
            CODE.INVALID_ARGUMENT,
            "invalid value type for 'timeout' parameter, expected int64_param.",
        ),
        (with_output("X"), CODE.INVALID_ARGUMENT, "unexpected inference output 'X' for model 'add_sub'"),
        (add_sub("boom"), CODE.INTERNAL, "boom in execute"),
    ],
)
async def test_errors_have_tritons_code_and_words(stub, request_, code, words):
    """From the request, the model's configuration and the model."""
    assert await refused(stub.ModelInfer(request_)) == (code, words)


CODES = ["UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARGUMENT", "UNAVAILABLE", "UNIMPLEMENTED", "ALREADY_EXISTS"]


@pytest.mark.parametrize(("number", "code"), list(enumerate([*CODES, "CANCELLED"])))
async def test_a_models_error_code_is_the_status(stub, number, code):
    """Each of Triton's eight codes."""
    raw = [np.full(4, number, "<f4").tobytes(), ONES]
    assert (await refused(stub.ModelInfer(add_sub("coded", raw=raw))))[0] is CODE[code]


@pytest.mark.parametrize("count", [0, 2])
async def test_a_call_takes_one_response(stub, count):
    """A model that is not decoupled and yet sends none, or more than one, fails the call."""
    request = pb.ModelInferRequest(model_name="several", raw_input_contents=[count.to_bytes(4, "little")])
    request.inputs.add(name="COUNT", datatype="INT32", shape=[1])
    assert await refused(stub.ModelInfer(request)) == (CODE.INTERNAL, f"expected a single response, got {count}")


async def test_bytes_that_are_no_message(channel):
    """INTERNAL, as in Triton."""
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    assert await refused(call(b"\xff\xff\xff")) == (CODE.INTERNAL, "Unable to parse request")


async def test_health(stub, channel, house):
    """Triton's three calls, and grpc.health.v1 for any service."""
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert (await stub.ServerLive(pb.ServerLiveRequest())).live
    assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
    assert await check(b"\x0a\x03foo") == b"\x08\x01"
    house.ready = False
    assert (await stub.ServerLive(pb.ServerLiveRequest())).live
    assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
    assert await check(b"") == b"\x08\x02"


async def test_a_model_that_is_not_there_is_not_ready(stub):
    """No error, just false; a version that is none is an error."""
    for name, version, ready in (("add_sub", "", True), ("add_sub", "9", False), ("nope", "", False)):
        assert (await stub.ModelReady(pb.ModelReadyRequest(name=name, version=version))).ready is ready
    code, _ = await refused(stub.ModelReady(pb.ModelReadyRequest(name="add_sub", version="abc")))
    assert code is CODE.INVALID_ARGUMENT


async def test_metadata(stub):
    """Of the server and of a model, with the batch dimension where there is one."""
    server = await stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (server.name, server.version, server.extensions[0]) == ("triton", "2.51.0", "classification")
    model = await stub.ModelMetadata(pb.ModelMetadataRequest(name="add_sub_batch"))
    assert (model.name, list(model.versions), model.platform) == ("add_sub_batch", ["1"], "python")
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [
        ("INPUT0", "FP32", [-1, 4]),
        ("INPUT1", "FP32", [-1, 4]),
    ]
    config = (await stub.ModelConfig(pb.ModelConfigRequest(name="add_sub"))).config
    assert (config.name, config.backend, len(config.output)) == ("add_sub", "python", 2)


async def test_statistics(stub):
    """What was counted, with every duration there."""
    await stub.ModelInfer(add_sub())
    (row,) = (await stub.ModelStatistics(pb.ModelStatisticsRequest(name="add_sub"))).model_stats
    assert (row.inference_count, row.execution_count, row.inference_stats.success.count) == (1, 1, 1)
    assert row.inference_stats.HasField("fail")
    assert (row.batch_stats[0].batch_size, row.batch_stats[0].compute_infer.count) == (1, 1)
    assert await refused(stub.ModelStatistics(pb.ModelStatisticsRequest(name="nope"))) == (
        CODE.INVALID_ARGUMENT,
        "requested model 'nope' is not available",
    )


async def test_the_index(stub):
    """All models, or the ready ones."""
    rows = (await stub.RepositoryIndex(pb.RepositoryIndexRequest())).models
    assert rows[-2] == pb.RepositoryIndexResponse.ModelIndex(name="broken")
    assert (rows[-1].state, rows[-1].reason) == ("UNAVAILABLE", "unloaded")
    ready = (await stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))).models
    assert {row.state for row in ready} == {"READY"}


async def test_loading_and_unloading(stub, house):
    """Configuration, files and dependents are passed on."""
    load = pb.RepositoryModelLoadRequest(model_name="m")
    load.parameters["config"].string_param = "{}"
    load.parameters["file:1/model.py"].bytes_param = b"print"
    await stub.RepositoryModelLoad(load)
    unload = pb.RepositoryModelUnloadRequest(model_name="m")
    unload.parameters["unload_dependents"].bool_param = True
    await stub.RepositoryModelUnload(unload)
    (_, _, given), unloaded = house.asked
    assert (given.config, given.files) == ("{}", {"1/model.py": b"print"})
    assert unloaded == ("unload", "m", True)


@pytest.mark.parametrize(
    ("key", "choice", "words"),
    [
        ("foo", {"string_param": "x"}, "unrecognized load parameter 'foo'."),
        ("config", {"int64_param": 3}, "invalid value type for load parameter 'config', expected string_param."),
    ],
)
async def test_wrong_load_parameters_are_refused(stub, key, choice, words):
    """In Triton's words."""
    load = pb.RepositoryModelLoadRequest(model_name="m")
    load.parameters[key].CopyFrom(pb.ModelRepositoryParameter(**choice))
    assert await refused(stub.RepositoryModelLoad(load)) == (CODE.INVALID_ARGUMENT, words)


async def test_settings_can_be_read(stub):
    """Logging and tracing as they are; changing them is not served yet."""
    log = await stub.LogSettings(pb.LogSettingsRequest())
    assert log.settings["log_format"].string_param == "default"
    assert log.settings["log_info"].bool_param
    trace = await stub.TraceSetting(pb.TraceSettingRequest())
    assert list(trace.settings["trace_level"].value) == ["OFF"]
    assert await refused(stub.TraceSetting(pb.TraceSettingRequest(model_name="nope"))) == (
        CODE.INVALID_ARGUMENT,
        "Request for unknown model : nope",
    )


async def test_settings_can_be_changed(stub):
    """What is named changes and is answered at once; a model's trace settings are its own."""
    change = pb.LogSettingsRequest()
    change.settings["log_verbose_level"].uint32_param = 2
    change.settings["log_info"].bool_param = False
    await stub.LogSettings(change)
    log = await stub.LogSettings(pb.LogSettingsRequest())
    assert (log.settings["log_verbose_level"].uint32_param, log.settings["log_info"].bool_param) == (2, False)
    change = pb.TraceSettingRequest(model_name="add_sub")
    change.settings["trace_rate"].value.append("7")
    trace = await stub.TraceSetting(change)
    assert list(trace.settings["trace_rate"].value) == ["7"]
    assert list((await stub.TraceSetting(pb.TraceSettingRequest())).settings["trace_rate"].value) == ["1000"]


async def test_wrong_settings_are_refused(stub):
    """In Triton's words."""
    change = pb.LogSettingsRequest()
    change.settings["log_info"].string_param = "x"
    assert await refused(stub.LogSettings(change)) == (CODE.INVALID_ARGUMENT, "expect boolean for 'log_info'")
    change = pb.TraceSettingRequest()
    change.settings["trace_file"].value.append("x")
    assert await refused(stub.TraceSetting(change)) == (
        CODE.UNIMPLEMENTED,
        "trace file location can not be updated through network protocol",
    )


def patient():
    request = pb.ModelInferRequest(model_name="patient", raw_input_contents=[ONES[:4]])
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[1])
    return request


async def test_a_cancelled_call_cancels_its_request(stub, watched):
    """The model is told."""
    submitted, cancelled = watched("patient")
    call = stub.ModelInfer(patient())
    async with asyncio.timeout(60):
        await submitted.wait()
        call.cancel()
        await cancelled.wait()


async def test_a_deadline_cancels_its_request(stub, watched):
    """The client gets its status, the model is told."""
    _, cancelled = watched("patient")
    code, _ = await refused(stub.ModelInfer(patient(), timeout=1))
    assert code is CODE.DEADLINE_EXCEEDED
    async with asyncio.timeout(60):
        await cancelled.wait()


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
async def test_long_strings_are_walked_before_they_are_checked(stub, monkeypatch, *, streamed):
    """In slices, with others served between them: the check of the request finds them walked, and does not walk."""

    def not_here(data, expected):
        raise AssertionError("walked all at once")

    monkeypatch.setattr(check, "walk_bytes", not_here)
    words = [b"x" * (number % 5) for number in range(LONG_BYTES // 4)]
    request = pb.ModelInferRequest(model_name="identity_string", raw_input_contents=[join_bytes(words)])
    request.inputs.add(name="INPUT0", datatype="BYTES", shape=[len(words)])
    if streamed:
        [item] = [item async for item in stub.ModelStreamInfer(iter([request]))]
        assert not item.error_message
        response = item.infer_response
    else:
        response = await stub.ModelInfer(request)
    assert response.raw_output_contents[0] == request.raw_input_contents[0]
