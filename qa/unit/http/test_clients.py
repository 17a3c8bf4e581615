"""Triton's own HTTP clients, and curl, against a real port."""

import asyncio

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

FOUR = np.arange(4, dtype=np.float32)


def tensors(module, *, binary):
    inputs = [module.InferInput(name, [4], "FP32") for name in ("INPUT0", "INPUT1")]
    for tensor in inputs:
        tensor.set_data_from_numpy(FOUR, binary_data=binary)
    outputs = [module.InferRequestedOutput(name, binary_data=binary) for name in ("OUTPUT0", "OUTPUT1")]
    return inputs, outputs


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
async def test_the_synchronous_client_infers(port, binary, compression):
    """JSON and binary, compressed and not."""

    def infer():
        with tritonclient.http.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert client.is_server_live()
            assert client.is_model_ready("add_sub")
            inputs, outputs = tensors(tritonclient.http, binary=binary)
            return client.infer(
                "add_sub",
                inputs,
                outputs=outputs,
                request_id="9",
                request_compression_algorithm=compression,
                response_compression_algorithm=compression,
            )

    result = await asyncio.to_thread(infer)
    assert result.get_response()["id"] == "9"
    assert result.as_numpy("OUTPUT0").tolist() == [0, 2, 4, 6]


async def test_the_asynchronous_client_infers_and_reads(port):
    """Metadata, configuration, statistics, index and inference."""
    async with tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
        inputs, outputs = tensors(tritonclient.http, binary=True)
        result = await client.infer("add_sub", inputs, outputs=outputs)
        assert result.as_numpy("OUTPUT1").tolist() == [0, 0, 0, 0]
        assert (await client.get_server_metadata())["name"] == "triton"
        assert (await client.get_model_metadata("add_sub"))["inputs"][0]["name"] == "INPUT0"
        assert (await client.get_model_config("add_sub"))["backend"] == "python"
        statistics = await client.get_inference_statistics("add_sub")
        assert statistics["model_stats"][0]["inference_count"] == 1
        assert (await client.get_model_repository_index())[0]["state"] == "READY"


@pytest.mark.parametrize("binary", [True, False])
async def test_strings_travel_both_ways(port, binary):
    """A BYTES tensor is the same array again."""
    words = np.array([b"abc", b"", "h\u00e9".encode()], dtype=object)
    async with tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
        tensor = tritonclient.http.InferInput("INPUT0", [3], "BYTES")
        tensor.set_data_from_numpy(words, binary_data=binary)
        output = tritonclient.http.InferRequestedOutput("OUTPUT0", binary_data=binary)
        result = await client.infer("identity_string", [tensor], outputs=[output])
        found = [item if isinstance(item, bytes) else item.encode() for item in result.as_numpy("OUTPUT0")]
    assert found == words.tolist()


async def test_the_clients_exceptions_carry_our_words(port):
    """Message and status."""
    async with tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(InferenceServerException, match="Request for unknown model: 'nope' is not found") as raised:
            await client.get_model_metadata("nope")
    assert raised.value.status() == "404"


async def test_curl_infers(port):
    """One line of shell."""
    body = (
        '{"inputs":[{"name":"INPUT0","shape":[4],"datatype":"FP32","data":[1,2,3,4]},'
        '{"name":"INPUT1","shape":[4],"datatype":"FP32","data":[1,1,1,1]}]}'
    )
    process = await asyncio.create_subprocess_exec(
        "curl", "-sf", f"http://127.0.0.1:{port}/v2/models/add_sub/infer", "-d", body, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    assert process.returncode == 0
    assert b'"data":[2.0,3.0,4.0,5.0]' in answer
