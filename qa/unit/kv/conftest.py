"""An S3 to keep blocks in: moto's, in a process of its own, with one bucket. And tests in a process of their own."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ALONE = "TRITIUM_TEST_ALONE"
_ALONE_S = 240


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark of tests that run in a process of their own."""
    config.addinivalue_line("markers", "alone: what NIXL brings along is not to meet what other tests have loaded")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test so marked by a pytest of its own; it is passed where that passes."""
    if ALONE in os.environ or pyfuncitem.get_closest_marker("alone") is None:
        return None
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    root, surroundings = pyfuncitem.config.rootpath, {**os.environ, ALONE: "1"}
    ran = subprocess.run(
        words, cwd=root, env=surroundings, capture_output=True, text=True, timeout=_ALONE_S, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return True


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
        until = time.monotonic() + 150
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
