"""Shared memory regions in Triton's words: what registering them and using them is refused with.

Source: server/src/shared_memory_manager.cc and http_server.cc, 2.73. A CUDA region is answered as by a Triton that
was built without GPU support, after its registration has been read as by one that was built with it.
"""

import base64
import binascii
from collections.abc import Callable

from tritium.compat.v2.refusal import Code, Refusal

View = Callable[[str, int, int], memoryview]
"""Finds the memory of a region by name, offset and size in bytes, or raises a Refusal."""

SHARED_MEMORY = "shared_memory_region"
"""The parameter of a tensor that names its region."""

RESERVED_PREFIX = "triton_python_backend_shm_region_"
CUDA_HANDLE_BYTES = 64
MOST_BYTES = (1 << 64) - 1


def disabled() -> Refusal:
    """Refuse clients that register memory where the server does not let them."""
    return Refusal(
        "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable.",
        Code.UNSUPPORTED,
    )


def check_key(name: str, key: str) -> None:
    """Refuse a key that no object can have, or that belongs to the server.

    Raises:
        Refusal: the key is nothing but slashes, or begins as the server's own do.
    """
    bare = key.lstrip("/")
    if not bare:
        raise Refusal(f"cannot register shared memory region '{name}' - invalid shm key '{key}'")
    if bare.startswith(RESERVED_PREFIX):
        raise Refusal(
            f"cannot register shared memory region '{name}' with key '{key}' "
            f"as the key contains the reserved prefix '{RESERVED_PREFIX}'"
        )


def taken(name: str) -> Refusal:
    """Refuse a second region of the same name."""
    return Refusal(f"shared memory region '{name}' already in manager", Code.ALREADY_EXISTS)


def no_object(key: str) -> Refusal:
    """Refuse a key under which nothing can be opened."""
    return Refusal(f"Unable to open shared memory region: '{key}'", Code.INTERNAL)


def beyond_object(name: str) -> Refusal:
    """Refuse a region that ends behind its object."""
    return Refusal(f"failed to register shared memory region '{name}': invalid args")


def unmappable(name: str, reason: str) -> Refusal:
    """Refuse a region that the kernel does not map; there is no blank before the reason in Triton's text either."""
    return Refusal(f"failed to register shared memory region '{name}': unable to process address space{reason}")


def unknown(name: object) -> Refusal:
    """Refuse a tensor in a region that nobody registered."""
    return Refusal(f"Unable to find shared memory region: '{name}'", Code.NOT_FOUND)


def no_memory(name: str, _offset: int, _byte_size: int) -> memoryview:
    """Find no region: the `View` of a server without shared memory.

    Raises:
        Refusal: always.
    """
    raise unknown(name)


def unknown_status(kind: str, name: str) -> Refusal:
    """Refuse the status of a region that nobody registered; `kind` is system or cuda."""
    return Refusal(f"Unable to find {kind} shared memory region: '{name}'", Code.NOT_FOUND)


def not_cuda(name: str) -> Refusal:
    """Refuse the CUDA status of a region of system memory."""
    return Refusal(
        f"The region named '{name}' is registered as system shared memory, not CUDA shared memory", Code.NOT_FOUND
    )


def check_bounds(name: str, size: int, offset: int, byte_size: int) -> None:
    """Refuse a tensor that is not within its region of `size` bytes.

    Raises:
        Refusal: in Triton's order of looking.
    """
    if offset >= size:
        raise Refusal(f"Invalid offset for shared memory region: '{name}'")
    if offset + byte_size > MOST_BYTES:
        raise Refusal(
            f"Integer overflow detected: byte_size ({byte_size}) + offset ({offset}) exceeds maximum value "
            f"({MOST_BYTES}) for region '{name}'"
        )
    if offset + byte_size > size:
        raise Refusal(f"Invalid offset + byte size for shared memory region: '{name}'")


def cut_off(name: str, key: str) -> Refusal:
    """Refuse a region whose object has been made shorter since; a Triton that reads there is killed by the kernel."""
    return Refusal(f"shared memory region '{name}' no longer fits its object '{key}', which has been made shorter")


def too_small(output: str, given: int, needed: int) -> Refusal:
    """Refuse to write an output into memory that does not hold it."""
    return Refusal(
        f"shared memory size specified with the request for output '{output}' ({given} bytes) "
        f"should be at least {needed} bytes to hold the results",
        Code.INTERNAL,
    )


def no_gpu(name: str) -> Refusal:
    """Refuse a region of CUDA memory."""
    return Refusal(f"failed to register CUDA shared memory region: '{name}', GPUs not supported")


def check_cuda_handle(encoded: str) -> None:
    """Refuse a handle, in base64, that cannot be one.

    Raises:
        Refusal: it is not as long as a CUDA IPC handle.
    """
    try:
        handle = base64.b64decode(encoded)
    except binascii.Error:
        handle = b""
    if len(handle) != CUDA_HANDLE_BYTES:
        raise Refusal("'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t")
