"""A local S3 with one bucket: moto's, in a process of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

READY_S = 90
_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=k/20200101/us-east-1/s3/aws4_request"}
_KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A store that runs; its bucket is named `bucket`."""

    endpoint: str
    process: subprocess.Popen[bytes]

    def hang(self) -> None:
        """Have it take connections and answer nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """End it, whether it hangs or not."""
        self.process.kill()
        self.process.wait(60)


@contextmanager
def bucket() -> Iterator[Bucket]:
    """Start it; its keys stand in the environment, where workers look for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(_KEYS)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + READY_S
        made = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT", headers=_SIGNED)
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(made, timeout=60).close()
                break
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("moto's S3 did not start: pip install 'moto[server]'")
            time.sleep(0.05)
        yield Bucket(f"http://127.0.0.1:{port}", process)
    finally:
        process.kill()
        process.wait(60)
