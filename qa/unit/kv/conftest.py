"""An S3 to keep blocks in: moto's, in a process of its own, with one bucket."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start moto's S3 with a bucket named `bucket` and return its address."""
    pytest.importorskip("moto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log: Path = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        until = time.monotonic() + 90
        headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=k/20200101/us-east-1/s3/aws4_request"}
        bucket = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT", headers=headers)
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(bucket, timeout=60).close()
                break
            assert process.poll() is None, f"moto did not start: {log.read_text()}"
            assert time.monotonic() < until, "moto did not start in time"
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)
