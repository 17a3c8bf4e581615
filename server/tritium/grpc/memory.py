"""Shared memory regions: their status, registering and unregistering them."""

from tritium.compat.protobufs import service_pb2
from tritium.grpc.front import Front
from tritium.grpc.message import parse
from tritium.wire.grpc import Call


async def system_status(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """List the regions of system memory, or the one that is named."""
    request = parse(service_pb2.SystemSharedMemoryStatusRequest, message)
    response = service_pb2.SystemSharedMemoryStatusResponse()
    for status in front.server.regions.status(request.name):
        region = response.regions[status.name]
        region.name, region.key = status.name, status.key
        region.offset, region.byte_size = status.offset, status.byte_size
    return bytes(response.SerializeToString())


async def register_system(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Map a part of a POSIX shared memory object under a name."""
    request = parse(service_pb2.SystemSharedMemoryRegisterRequest, message)
    front.server.regions.check_open()
    front.server.regions.register(request.name, request.key, request.offset, request.byte_size)
    return b""


async def unregister_system(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Forget a region of system memory, or all of them."""
    request = parse(service_pb2.SystemSharedMemoryUnregisterRequest, message)
    front.server.regions.check_open()
    front.server.regions.unregister(request.name)
    return b""


async def cuda_status(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """List the regions of CUDA memory: none."""
    request = parse(service_pb2.CudaSharedMemoryStatusRequest, message)
    front.server.regions.cuda_status(request.name)
    return bytes(service_pb2.CudaSharedMemoryStatusResponse().SerializeToString())


async def register_cuda(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Refuse a region of CUDA memory."""
    request = parse(service_pb2.CudaSharedMemoryRegisterRequest, message)
    front.server.regions.register_cuda(request.name)
    return b""


async def unregister_cuda(message: bytes | memoryview, _call: Call, front: Front) -> bytes:
    """Forget CUDA regions, of which there are none."""
    request = parse(service_pb2.CudaSharedMemoryUnregisterRequest, message)
    front.server.regions.check_open()
    front.server.regions.unregister_cuda(request.name)
    return b""
