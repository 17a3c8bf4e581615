"""POST .../infer against a real port."""

import asyncio
import gzip
import json
import time
import zlib

import numpy as np
import pytest

A = {"name": "INPUT0", "shape": [4], "datatype": "FP32", "data": [1, 2, 3, 4]}
B = {"name": "INPUT1", "shape": [4], "datatype": "FP32", "data": [1, 1, 1, 1]}
BOTH = {"inputs": [A, B]}
FOUR = np.array([1, 2, 3, 4], "<f4").tobytes()

WRONG_DATATYPE = (
    "[request id: <id_unknown>] inference input 'INPUT1' data-type is 'INT32', but model 'add_sub' expects 'FP32'"
)


def binary(tensor, size=16):
    return {key: tensor[key] for key in ("name", "shape", "datatype")} | {"parameters": {"binary_data_size": size}}


async def infer(client, model, document, *tensors, **headers):
    text = json.dumps(document).encode()
    if tensors:
        headers["Inference-Header-Content-Length"] = str(len(text))
    return await client.post(f"/v2/models/{model}/infer", content=text + b"".join(tensors), headers=headers)


async def test_json_in_json_out(client):
    """The answer is Triton's to the byte."""
    answer = await infer(client, "add_sub", BOTH | {"id": "7"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == (
        b'{"id":"7","model_name":"add_sub","model_version":"1","outputs":['
        b'{"name":"OUTPUT0","datatype":"FP32","shape":[4],"data":[2.0,3.0,4.0,5.0]},'
        b'{"name":"OUTPUT1","datatype":"FP32","shape":[4],"data":[0.0,1.0,2.0,3.0]}]}'
    )


async def test_binary_in_binary_out(client):
    """Tensors follow the JSON, whose length a header tells; each output as it was asked for."""
    wanted = [{"name": "OUTPUT0", "parameters": {"binary_data": True}}, {"name": "OUTPUT1"}]
    answer = await infer(client, "add_sub", {"inputs": [binary(A), binary(B)], "outputs": wanted}, FOUR, FOUR)
    size = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    outputs = json.loads(answer.content[:size])["outputs"]
    assert outputs[0] == {
        "name": "OUTPUT0",
        "datatype": "FP32",
        "shape": [4],
        "parameters": {"binary_data_size": 16},
    }
    assert outputs[1]["data"] == [0.0, 0.0, 0.0, 0.0]
    assert np.frombuffer(answer.content[size:], "<f4").tolist() == [2, 4, 6, 8]


async def test_binary_data_output_asks_for_every_output(client):
    """One parameter of the request, for those who name no outputs."""
    answer = await infer(client, "add_sub", BOTH | {"parameters": {"binary_data_output": True}})
    assert len(answer.content) == int(answer.headers["inference-header-content-length"]) + 32


async def test_a_raw_body_is_the_one_input(client):
    """No JSON at all: the body is the tensor, and the answer comes back as bytes."""
    answer = await client.post(
        "/v2/models/identity_fp32/infer", content=FOUR, headers={"Inference-Header-Content-Length": "0"}
    )
    size = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.content[:size])["outputs"][0]["shape"] == [4]
    assert answer.content[size:] == FOUR


async def test_outputs_come_in_the_models_order(client):
    """The order in which they are named does not matter."""
    wanted = [{"name": "OUTPUT1"}, {"name": "OUTPUT0"}]
    answer = await infer(client, "add_sub", BOTH | {"outputs": wanted})
    assert [output["name"] for output in answer.json()["outputs"]] == ["OUTPUT0", "OUTPUT1"]


async def test_classes_are_named_from_the_label_file(client):
    """The labels come from the server."""
    wanted = [
        {"name": "OUTPUT0", "parameters": {"classification": 2}},
        {"name": "OUTPUT1", "parameters": {"classification": 1}},
    ]
    answer = await infer(client, "add_sub", BOTH | {"outputs": wanted})
    first, second = answer.json()["outputs"]
    assert first["data"] == ["5.000000:3:three", "4.000000:2:two"]
    assert second["data"] == ["3.000000:3"]


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies_are_read(client, encoding, pack):
    """Both encodings that Triton's clients send."""
    answer = await client.post(
        "/v2/models/add_sub/infer", content=pack(json.dumps(BOTH).encode()), headers={"Content-Encoding": encoding}
    )
    assert answer.json()["outputs"][0]["data"] == [2.0, 3.0, 4.0, 5.0]


async def test_long_bodies_are_packed_and_unpacked(client):
    """A megabyte, each way."""
    long = np.zeros(1 << 18, "<f4").tobytes()
    answer = await client.post(
        "/v2/models/identity_fp32/infer",
        content=gzip.compress(long),
        headers={"Content-Encoding": "gzip", "Accept-Encoding": "gzip", "Inference-Header-Content-Length": "0"},
    )
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content.endswith(long)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip", "gzip"), ("deflate", "deflate"), ("gzip;q=0.5, deflate", "deflate"), ("br, identity", None)],
)
async def test_answers_are_compressed_as_asked(client, accepted, encoding):
    """The best of what the client takes; httpx undoes it."""
    answer = await infer(client, "add_sub", BOTH, **{"Accept-Encoding": accepted})
    assert answer.headers.get("content-encoding") == encoding
    assert answer.json()["model_name"] == "add_sub"


@pytest.mark.parametrize(
    ("body", "encoding", "status", "words"),
    [
        (b"{}", "br", 501, "Unsupported compression type"),
        (b"", "gzip", 400, "nothing to be decompressed"),
        (b"no gzip", "gzip", 400, "failed to decompress the request body"),
        (gzip.compress(b"{}" * 100)[:-9], "gzip", 400, "it ends early"),
        (
            gzip.compress(bytes(65 << 20)),
            "gzip",
            400,
            "Decompressed data size exceeds the maximum allowed value of 67108864 bytes",
        ),
    ],
)
async def test_bodies_that_are_not_what_they_say_are_refused(client, body, encoding, status, words):
    """A broken frame, an unknown encoding, and a bomb."""
    answer = await client.post("/v2/models/add_sub/infer", content=body, headers={"Content-Encoding": encoding})
    assert (answer.status_code, words in answer.json()["error"]) == (status, True)


@pytest.mark.parametrize(
    ("model", "document", "status", "words"),
    [
        ("nope", BOTH, 404, "Request for unknown model: 'nope' is not found"),
        ("add_sub/versions/9", BOTH, 404, "Request for unknown model: 'add_sub' version 9 is not found"),
        ("add_sub", {}, 500, "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
        (
            "add_sub",
            {"inputs": [A, B | {"datatype": "INT32"}]},
            400,
            WRONG_DATATYPE,
        ),
        ("add_sub", BOTH | {"outputs": [{"name": "X"}]}, 400, "unexpected inference output 'X' for model 'add_sub'"),
        ("boom", BOTH, 500, "boom in execute"),
        (
            "identity_string",
            {
                "inputs": [{"name": "INPUT0", "shape": [1], "datatype": "BYTES", "data": ["a"]}],
                "outputs": [{"name": "OUTPUT0", "parameters": {"classification": 1}}],
            },
            400,
            "class result not available for output due to unsupported type 'BYTES'",
        ),
    ],
)
async def test_errors_have_tritons_status_and_words(client, model, document, status, words):
    """From the URL, the body, the model's configuration and the model."""
    answer = await infer(client, model, document)
    assert (answer.status_code, answer.json()) == (status, {"error": words})
    assert answer.headers["content-type"] == "application/json"


async def test_a_decoupled_model_says_where_its_answers_can_be_had(client):
    """One answer cannot be many: Triton's words, and in a header beside them the ways that can."""
    answer = await infer(client, "repeat", BOTH)
    assert answer.status_code == 501
    assert answer.json() == {"error": "HTTP end point doesn't support models with decoupled transaction policy"}
    assert answer.headers["tritium-hint"] == "POST /v2/models/repeat/generate_stream, or use gRPC's ModelStreamInfer"


@pytest.mark.parametrize(("code", "status"), list(enumerate([400, 500, 404, 400, 503, 501, 400, 400])))
async def test_a_models_error_code_is_the_status(client, code, status):
    """Each of Triton's eight codes."""
    answer = await infer(client, "coded", {"inputs": [A | {"data": [code, 0, 0, 0]}, B]})
    assert answer.status_code == status


async def test_a_client_that_leaves_cancels_its_request(port, watched):
    """Nobody waits for the answer, and the model is told."""
    submitted, cancelled = watched("patient")
    body = json.dumps({"inputs": [A]}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v2/models/patient/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    async with asyncio.timeout(60):
        await submitted.wait()
        writer.close()
        await cancelled.wait()
        await writer.wait_closed()


async def test_a_large_answer_in_json_lets_others_have_their_turn(client):
    """While two million elements are written, health is asked and answered again and again."""
    data = np.ones(2_000_000, "<f4")
    text = json.dumps(
        {
            "inputs": [
                {
                    "name": "INPUT0",
                    "datatype": "FP32",
                    "shape": [len(data)],
                    "parameters": {"binary_data_size": data.nbytes},
                }
            ]
        }
    ).encode()
    waits = []

    async def watch():
        while True:
            before = time.monotonic()
            await asyncio.sleep(0)
            waits.append(time.monotonic() - before)

    watching = asyncio.create_task(watch())
    answer = await client.post(
        "/v2/models/identity_fp32/infer",
        content=text + data.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(text))},
    )
    watching.cancel()
    assert answer.json()["outputs"][0]["data"][-1] == 1.0
    assert len(waits) > 100
