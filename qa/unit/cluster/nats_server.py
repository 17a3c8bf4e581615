"""A real NATS server with JetStream on a free port, which can be killed and started again with or without its store."""

import asyncio
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress


class NatsServer:
    def __init__(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self.folder = tempfile.mkdtemp(prefix="tritium-nats-")
        self.process = None

    @property
    def address(self):
        return f"nats://127.0.0.1:{self.port}"

    async def start(self):
        """Start it and wait until it takes connections."""
        await asyncio.to_thread(self.start_now)

    def start_now(self, within_s=60.0):
        self.process = subprocess.Popen(
            ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", self.folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            assert self.process.poll() is None, "nats-server has ended"
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise TimeoutError("nats-server does not listen")

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def wipe(self):
        """Forget every stream; for a server that was killed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self):
        if self.process is not None:
            self.kill()
        self.wipe()
