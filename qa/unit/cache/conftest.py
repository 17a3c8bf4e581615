"""A real Redis for the tests of the cache that needs one."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

Start = Callable[..., Awaitable["RedisServer"]]


class RedisServer:
    """A redis-server process on a port of its own."""

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self.port = port
        self._folder = folder
        self._password = password
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start, and wait until the port answers."""
        line = [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self._folder),
        ]
        if self._password:
            line += ["--requirepass", self._password]
        self._process = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE)
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            while b"Ready to accept connections" not in await self._process.stdout.readline():
                pass

    async def stop(self) -> None:
        """End the process, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.communicate()


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a Redis with `await redis(password="")`; it ends with the test."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    servers: list[RedisServer] = []

    async def start(password: str = "") -> RedisServer:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = RedisServer(tmp_path, port, password)
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        await server.stop()
