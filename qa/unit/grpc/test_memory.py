"""Shared memory over gRPC: registered regions as inputs and outputs, of unary calls and of streams."""

import mmap
import os
from _posixshmem import shm_open, shm_unlink

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritium.memory.registry import RegionRegistry

CODE = grpc.StatusCode
KEY = f"/tritium_test_{os.getpid()}"
FOUR = np.array([1, 2, 3, 4], "<f4")


@pytest.fixture
def memory():
    """A client's shared memory: two inputs of four numbers, and room for two outputs."""
    descriptor = shm_open(KEY, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, 64)
        with mmap.mmap(descriptor, 64) as mapping:
            mapping[:32] = np.concatenate([FOUR, np.ones(4, "<f4")]).tobytes()
            yield mapping
    finally:
        os.close(descriptor)
        shm_unlink(KEY)


@pytest.fixture
async def port(serve):
    """A port whose clients may share memory."""
    return await serve({"regions": RegionRegistry()})


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details()


def register(name="r", byte_size=64):
    return pb.SystemSharedMemoryRegisterRequest(name=name, key=KEY, byte_size=byte_size)


def place(tensor, offset, byte_size=16):
    tensor.parameters["shared_memory_region"].string_param = "r"
    tensor.parameters["shared_memory_offset"].int64_param = offset
    tensor.parameters["shared_memory_byte_size"].int64_param = byte_size


def add_sub(*, outputs=True):
    """A request that has nothing in it but where its tensors are."""
    request = pb.ModelInferRequest(model_name="add_sub")
    for index in range(2):
        place(request.inputs.add(name=f"INPUT{index}", datatype="FP32", shape=[4]), 16 * index)
        if outputs:
            place(request.outputs.add(name=f"OUTPUT{index}"), 32 + 16 * index)
    return request


async def test_a_region_comes_and_goes(stub, memory):
    """It is listed from its registration until it is unregistered, by name or with all others."""
    await stub.SystemSharedMemoryRegister(register())
    await stub.SystemSharedMemoryRegister(register("s", 32))
    regions = (await stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())).regions
    assert sorted(regions) == ["r", "s"]
    one = (await stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(name="s"))).regions["s"]
    assert (one.name, one.key, one.offset, one.byte_size) == ("s", KEY, 0, 32)
    assert await refused(stub.SystemSharedMemoryRegister(register())) == (
        CODE.ALREADY_EXISTS,
        "shared memory region 'r' already in manager",
    )
    await stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name="s"))
    assert await refused(stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(name="s"))) == (
        CODE.NOT_FOUND,
        "Unable to find system shared memory region: 's'",
    )
    await stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())
    assert not (await stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())).regions


async def test_tensors_travel_through_memory(stub, memory):
    """Inputs are read there and outputs are written there; the answer has their shapes and no contents."""
    await stub.SystemSharedMemoryRegister(register())
    response = await stub.ModelInfer(add_sub())
    assert [(output.name, list(output.shape)) for output in response.outputs] == [("OUTPUT0", [4]), ("OUTPUT1", [4])]
    assert list(response.raw_output_contents) == [b"", b""]
    assert memory[32:] == np.concatenate([FOUR + 1, FOUR - 1]).tobytes()


async def test_a_stream_uses_memory_as_well(stub, memory):
    """As a unary call does."""
    await stub.SystemSharedMemoryRegister(register())
    async for item in stub.ModelStreamInfer(iter([add_sub()])):
        assert not item.error_message
    assert memory[32:48] == (FOUR + 1).tobytes()


async def test_an_output_may_come_in_the_answer(stub, memory):
    """Memory for inputs alone."""
    await stub.SystemSharedMemoryRegister(register())
    response = await stub.ModelInfer(add_sub(outputs=False))
    assert list(response.raw_output_contents) == [(FOUR + 1).tobytes(), (FOUR - 1).tobytes()]


async def test_memory_that_does_not_hold_an_output(stub, memory):
    """Nothing is written, and the answer says how much is needed."""
    await stub.SystemSharedMemoryRegister(register())
    request = add_sub()
    request.outputs[0].parameters["shared_memory_byte_size"].int64_param = 8
    assert await refused(stub.ModelInfer(request)) == (
        CODE.INTERNAL,
        (
            "shared memory size specified with the request for output 'OUTPUT0' (8 bytes) should be at least 16 bytes "
            "to hold the results"
        ),
    )
    assert memory[32:] == bytes(32)


@pytest.mark.parametrize(("offset", "byte_size"), [(60, 16), (-4, 16), (0, -1), (64, 1)])
async def test_places_outside_of_a_region(stub, memory, offset, byte_size):
    """Also those that are only outside because they are negative."""
    await stub.SystemSharedMemoryRegister(register())
    request = add_sub()
    place(request.inputs[0], offset, byte_size)
    code, words = await refused(stub.ModelInfer(request))
    assert code is CODE.INVALID_ARGUMENT
    assert words.endswith(("region: 'r'", "region 'r'"))


async def test_cuda_memory_is_refused(stub):
    """There is none, so there is none to list, to register or to forget."""
    assert await refused(stub.CudaSharedMemoryRegister(pb.CudaSharedMemoryRegisterRequest(name="c"))) == (
        CODE.INVALID_ARGUMENT,
        "failed to register CUDA shared memory region: 'c', GPUs not supported",
    )
    assert not (await stub.CudaSharedMemoryStatus(pb.CudaSharedMemoryStatusRequest())).regions
    await stub.CudaSharedMemoryUnregister(pb.CudaSharedMemoryUnregisterRequest(name="c"))


async def test_a_server_that_shares_no_memory(serve):
    """Registering and forgetting say which flag lets clients do so; a region is not found."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await serve()}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for call in (
            stub.SystemSharedMemoryRegister(register()),
            stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest()),
            stub.CudaSharedMemoryUnregister(pb.CudaSharedMemoryUnregisterRequest()),
        ):
            code, words = await refused(call)
            assert code is CODE.UNIMPLEMENTED
            assert "--allow-client-shm=true" in words
        assert await refused(stub.ModelInfer(add_sub())) == (
            CODE.NOT_FOUND,
            "Unable to find shared memory region: 'r'",
        )
