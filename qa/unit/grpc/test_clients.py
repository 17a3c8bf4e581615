"""Triton's own gRPC clients against a real port."""

import asyncio
import queue

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

FOUR = np.arange(4, dtype=np.float32)


def tensors():
    inputs = [tritonclient.grpc.InferInput(name, [4], "FP32") for name in ("INPUT0", "INPUT1")]
    for tensor in inputs:
        tensor.set_data_from_numpy(FOUR)
    return inputs


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
async def test_the_synchronous_client_infers(port, compression):
    """Compressed and not."""

    def infer():
        with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert client.is_server_ready()
            assert client.is_model_ready("add_sub")
            return client.infer("add_sub", tensors(), request_id="9", compression_algorithm=compression)

    result = await asyncio.to_thread(infer)
    assert result.get_response().id == "9"
    assert result.as_numpy("OUTPUT0").tolist() == [0, 2, 4, 6]


async def test_the_synchronous_client_streams(port):
    """Callbacks in order, one for each response."""

    def stream():
        found = queue.Queue()
        count = tritonclient.grpc.InferInput("COUNT", [1], "INT32")
        count.set_data_from_numpy(np.array([3], np.int32))
        with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
            client.start_stream(lambda result, error: found.put((result, error)))
            client.async_stream_infer("repeat", [count], request_id="s")
            items = [found.get(timeout=60) for _ in range(3)]
            client.stop_stream()
        return items

    items = await asyncio.to_thread(stream)
    assert [int(result.as_numpy("OUT")[0]) for result, error in items if error is None] == [0, 1, 2]


async def test_the_asynchronous_client_infers_and_reads(port):
    """Metadata, configuration, statistics, index and inference."""
    async with tritonclient.grpc.aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
        result = await client.infer("add_sub", tensors())
        assert result.as_numpy("OUTPUT1").tolist() == [0, 0, 0, 0]
        assert (await client.get_server_metadata()).name == "triton"
        assert (await client.get_model_metadata("add_sub")).inputs[0].name == "INPUT0"
        assert (await client.get_model_config("add_sub")).config.backend == "python"
        assert (await client.get_inference_statistics("add_sub")).model_stats[0].inference_count == 1
        assert (await client.get_model_repository_index()).models[0].state == "READY"


async def test_strings_and_a_megabyte_travel_both_ways(port):
    """Small and large tensors are the same arrays again."""
    words = np.array([b"abc", b"", b"\xff\0"], dtype=object)
    large = np.arange(1 << 18, dtype=np.float32)
    async with tritonclient.grpc.aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
        for model, datatype, array in (("identity_string", "BYTES", words), ("identity_fp32", "FP32", large)):
            tensor = tritonclient.grpc.InferInput("INPUT0", [array.size], datatype)
            tensor.set_data_from_numpy(array)
            found = (await client.infer(model, [tensor])).as_numpy("OUTPUT0")
            assert found.tolist() == array.tolist()


async def test_the_clients_exceptions_carry_our_words(port):
    """Message and status."""
    async with tritonclient.grpc.aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(InferenceServerException, match="Request for unknown model: 'nope' is not found") as raised:
            await client.get_model_metadata("nope")
    assert raised.value.status() == "StatusCode.NOT_FOUND"
