"""Regions of system shared memory: registered, used, unregistered, and what they are refused with."""

import gc
import mmap
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tritium.compat.v2.refusal import Code, Refusal
from tritium.core.regions import NoRegions
from tritium.memory.registry import RegionRegistry

PAGE = mmap.PAGESIZE


@pytest.fixture
def registry():
    """An empty registry."""
    return RegionRegistry()


@pytest.fixture
def key():
    """The key of an object of two pages that counts from 0 to 255 again and again."""
    name = f"/tritium_test_{os.getpid()}"
    path = Path("/dev/shm") / name[1:]  # where POSIX shared memory is
    path.write_bytes(bytes(range(256)) * (2 * PAGE // 256))
    yield name
    path.unlink(missing_ok=True)


@contextmanager
def refused(text, code=Code.INVALID_ARG):
    """Expect exactly this refusal."""
    with pytest.raises(Refusal) as caught:
        yield
    assert (caught.value.message, caught.value.code) == (text, code)


def test_a_region_is_a_window_onto_its_object(registry, key):
    """What the client writes is read, and what is written the client reads, without a copy."""
    registry.register("r", key, PAGE, 64)
    view = registry.view("r", 8, 4)
    assert bytes(view) == bytes([8, 9, 10, 11])
    view[:2] = b"ab"
    assert Path("/dev/shm", key[1:]).read_bytes()[PAGE + 8 : PAGE + 12] == b"ab\n\v"


def test_status_lists_regions_by_name(registry, key):
    """All of them in order, or one."""
    registry.register("b", key, 0, 16)
    registry.register("a", key, PAGE, 32)
    assert [(s.name, s.key, s.offset, s.byte_size) for s in registry.status()] == [
        ("a", key, PAGE, 32),
        ("b", key, 0, 16),
    ]
    assert [s.name for s in registry.status("b")] == ["b"]
    with refused("Unable to find system shared memory region: 'c'", Code.NOT_FOUND):
        registry.status("c")


@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [
        (0, 2 * PAGE + 1, "failed to register shared memory region 'r': invalid args"),
        (2 * PAGE, 1, "failed to register shared memory region 'r': invalid args"),
        (2**64 - 1, 2**64 - 1, "failed to register shared memory region 'r': invalid args"),
        (8, 8, "failed to register shared memory region 'r': unable to process address spaceInvalid argument"),
        (0, 0, "failed to register shared memory region 'r': unable to process address spaceInvalid argument"),
    ],
    ids=["too large", "behind the end", "overflow", "not at a page", "empty"],
)
def test_a_part_that_is_not_there_is_refused(registry, key, offset, size, text):
    """In Triton's words, and nothing stays registered."""
    with refused(text):
        registry.register("r", key, offset, size)
    assert registry.status() == []


@pytest.mark.parametrize(
    ("key", "text", "code"),
    [
        ("/no_such_object", "Unable to open shared memory region: '/no_such_object'", Code.INTERNAL),
        ("a/b", "Unable to open shared memory region: 'a/b'", Code.INTERNAL),
        ("a\0b", "Unable to open shared memory region: 'a\0b'", Code.INTERNAL),
        ("//", "cannot register shared memory region 'r' - invalid shm key '//'", Code.INVALID_ARG),
        (
            "/triton_python_backend_shm_region_1",
            (
                "cannot register shared memory region 'r' with key '/triton_python_backend_shm_region_1' as the key "
                "contains the reserved prefix 'triton_python_backend_shm_region_'"
            ),
            Code.INVALID_ARG,
        ),
    ],
)
def test_a_key_that_opens_nothing_is_refused(registry, key, text, code):
    """No object, no name, or one of the server's own."""
    with refused(text, code):
        registry.register("r", key, 0, 8)


def test_a_name_is_registered_once(registry, key):
    """The second time is refused; after unregistering it is free again."""
    registry.register("r", key, 0, 8)
    with refused("shared memory region 'r' already in manager", Code.ALREADY_EXISTS):
        registry.register("r", key, 0, 8)
    registry.unregister("r")
    registry.register("r", key, 8 - 8, 16)
    assert registry.status()[0].byte_size == 16


@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [
        (64, 1, "Invalid offset for shared memory region: 'r'"),
        (0, 65, "Invalid offset + byte size for shared memory region: 'r'"),
        (60, 8, "Invalid offset + byte size for shared memory region: 'r'"),
        (
            1,
            2**64 - 1,
            (
                "Integer overflow detected: byte_size (18446744073709551615) + offset (1) exceeds maximum value "
                "(18446744073709551615) for region 'r'"
            ),
        ),
    ],
)
def test_a_tensor_lies_within_its_region(registry, key, offset, size, text):
    """Whatever reaches beyond is refused."""
    registry.register("r", key, 0, 64)
    with refused(text):
        registry.view("r", offset, size)


def test_a_region_in_use_leaves_when_it_is_no_longer_used(registry, key):
    """It is listed and usable until then, and its name is taken."""
    registry.register("r", key, 0, 64)
    view = registry.view("r", 0, 8)
    registry.unregister("r")
    assert [s.name for s in registry.status()] == ["r"]
    assert bytes(registry.view("r", 0, 2)) == b"\0\1"
    with refused("shared memory region 'r' already in manager", Code.ALREADY_EXISTS):
        registry.register("r", key, 0, 64)
    assert bytes(view) == bytes(range(8))
    del view
    assert registry.status() == []
    with refused("Unable to find shared memory region: 'r'", Code.NOT_FOUND):
        registry.view("r", 0, 8)


def test_unregistering_nothing_is_no_error(registry, key):
    """Neither a name that is not known, nor all of none."""
    registry.unregister("r")
    registry.unregister()
    registry.register("a", key, 0, 8)
    registry.register("b", key, 0, 8)
    registry.unregister()
    assert registry.status() == []


def test_an_object_that_was_cut_off_is_not_read(registry, key):
    """Reading it would end the process with SIGBUS."""
    registry.register("r", key, PAGE, 64)
    os.truncate(Path("/dev/shm", key[1:]), PAGE)
    with refused(f"shared memory region 'r' no longer fits its object '{key}', which has been made shorter"):
        registry.view("r", 0, 8)


def test_an_unlinked_object_stays_usable(registry, key):
    """Its name is gone, its memory is not."""
    registry.register("r", key, 0, 64)
    Path("/dev/shm", key[1:]).unlink()
    assert bytes(registry.view("r", 1, 2)) == b"\1\2"


def held(key):
    """Count open descriptors, and mappings of an object."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())), Path("/proc/self/maps").read_text().count(key)


def test_no_descriptor_and_no_mapping_is_left(registry, key):
    """Neither by refused registrations nor by those that come and go."""
    descriptors, mappings = held(key)
    for _ in range(100):
        registry.register("r", key, 0, 64)
        registry.view("r", 0, 8)[:1] = b"x"
        registry.unregister("r")
        with pytest.raises(Refusal):
            registry.register("r", key, 1, 8)
    after = held(key)
    assert (after[0] <= descriptors, after[1] <= mappings) == (True, True)


def test_cuda_memory_is_answered_as_without_a_gpu(registry, key):
    """It cannot be registered; its status is that of nothing."""
    registry.register("r", key, 0, 8)
    with refused("failed to register CUDA shared memory region: 'c', GPUs not supported"):
        registry.register_cuda("c")
    with refused("shared memory region 'r' already in manager", Code.ALREADY_EXISTS):
        registry.register_cuda("r")
    assert registry.cuda_status() == []
    with refused("Unable to find cuda shared memory region: 'c'", Code.NOT_FOUND):
        registry.cuda_status("c")
    with refused("The region named 'r' is registered as system shared memory, not CUDA shared memory", Code.NOT_FOUND):
        registry.cuda_status("r")
    registry.unregister_cuda("r")
    assert [s.name for s in registry.status()] == ["r"]


def test_a_server_without_client_memory_refuses_it():
    """The status may be asked for, and is empty."""
    closed = NoRegions()
    assert (closed.status(), closed.cuda_status()) == ((), ())
    off = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
    for action in (
        closed.check_open,
        closed.unregister,
        closed.unregister_cuda,
        lambda: closed.register("r", "/k", 0, 8),
        lambda: closed.register_cuda("r"),
    ):
        with refused(off, Code.UNSUPPORTED):
            action()


def test_a_region_that_is_shortened_while_it_is_used_reads_as_zeros(registry, key):
    """What has come before stays as it was; the request in hand survives, and the next is refused."""
    registry.register("r", key, 0, 2 * PAGE)
    registry.register("other", key, 0, 16)
    view = registry.view("r", 0, 2 * PAGE)
    assert view[PAGE + 1] == 1
    os.truncate(Path("/dev/shm", key[1:]), PAGE)
    assert bytes(view[PAGE:]) == bytes(PAGE)
    view[PAGE:] = b"x" * PAGE
    os.truncate(Path("/dev/shm", key[1:]), 2 * PAGE)
    with refused(f"shared memory region 'r' no longer fits its object '{key}', which has been made shorter"):
        registry.view("r", 0, 1)
    assert registry.view("other", 1, 1)[0] == 1


def test_a_fault_elsewhere_is_as_deadly_as_ever():
    """Only regions are met with zeros: any other SIGBUS would go on with memory that is not what it should be."""
    code = (
        "import mmap, os, tempfile\n"
        "from tritium.memory import fault\n"
        "fault.watch(kept := mmap.mmap(-1, 4096))\n"
        "file = tempfile.TemporaryFile()\n"
        "file.truncate(4096)\n"
        "mapping = mmap.mmap(file.fileno(), 4096)\n"
        "file.truncate(0)\n"
        "mapping[0]\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert ended.returncode == -signal.SIGBUS
