"""A transport without a socket: what is written is kept, what is read is pushed in by the test."""

import asyncio

import pytest


class MemoryTransport(asyncio.Transport):
    """The transport of a connection under test."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closing = False
        self.writes = 0

    def write(self, data) -> None:
        self.writes += 1
        self.written += data

    def writelines(self, list_of_data) -> None:
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closing = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken = bytes(self.written)
        self.written.clear()
        return taken


def push(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Have a protocol read some bytes, through the memory it offers."""
    while data:
        memory = protocol.get_buffer(-1)
        size = min(len(memory), len(data))
        memory[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]


@pytest.fixture
def transport() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture(name="push", scope="session")
def push_fixture():
    return push


@pytest.fixture(name="memory_transport", scope="session")
def memory_transport_fixture():
    return MemoryTransport
