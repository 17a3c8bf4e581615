"""Object stores to read from: moto's S3 in a process of its own, and small ones of Google's and Azure's manners."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

obstore = pytest.importorskip("obstore")


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory):
    """Start moto's S3 and return its address."""
    pytest.importorskip("moto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
    )
    try:
        until = time.monotonic() + 150
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=60).close()
                break
            assert process.poll() is None, "moto did not start"
            assert time.monotonic() < until, "moto did not start in time"
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)
        log.close()


class Bucket:
    """One bucket of moto, written to by name."""

    def __init__(self, endpoint, name):
        self.address = f"s3://{endpoint}/{name}"
        self._url = f"http://{endpoint}/{name}"
        self._send("PUT", self._url)
        config = {"endpoint": f"http://{endpoint}", "access_key_id": "k", "secret_access_key": "s", "region": "r"}
        self._store = obstore.store.S3Store(name, config=config, client_options={"allow_http": True})

    def put(self, path, data):
        obstore.put(self._store, path, data if isinstance(data, bytes) else data.encode())

    def marker(self, path):
        """Write an object that stands for a folder, as consoles do."""
        self._send("PUT", f"{self._url}/{path}/")

    def delete(self, path):
        obstore.delete(self._store, path)

    @staticmethod
    def _send(method, url):
        headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=k/20200101/us-east-1/s3/aws4_request"}
        urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=60).close()


@pytest.fixture
def bucket(s3_endpoint, request, monkeypatch):
    """Make an empty bucket, with the credentials for it in the environment."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "TRITON_CLOUD_CREDENTIAL_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:50].strip("-")
    return Bucket(s3_endpoint, f"b-{name}")
