"""Servers for the recorded cases, each started when first asked for, and a test for each case of a file."""

import importlib.util
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
READY_WITHIN_S = 150
SERVERS = {
    "main": [],
    "counted": ["--cache-config=local,size=16777216"],
    "explicit": ["--control-mode=explicit"],
}
"""The servers, and how each is started beyond what all have in common."""
PROTOCOLS = ("http", "grpc", "wire")
CASES = {
    "http_case": ["http/*.txt"],
    "grpc_case": ["grpc/*.txt"],
    "wire_case": ["wire/*.txt"],
    "life_case": ["counted/http.txt", "explicit/http.txt", "explicit/grpc.txt"],
}
"""The files of the cases that a test is handed one by one, in the order in which they are asked."""
KEY = "/golden_shm"
"""The key of the clients' shared memory in the cases; each run has its own object behind it."""


def _module(name):
    full = f"golden_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, HERE / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


@dataclass
class Server:
    """A running server over the models of the cases."""

    http: int
    grpc: int


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """Give the server of a name; it runs until the session ends."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def server(name):
            if name not in running:
                running[name] = stack.enter_context(_serve(tmp_path_factory.mktemp(name), SERVERS[name]))
            return running[name]

        yield server


@pytest.fixture(scope="session")
def server(servers):
    """The server of most cases."""
    return servers("main")


@pytest.fixture(scope="session")
def shared_memory():
    """Four numbers, four ones, and room for two answers, as the recorder had them."""
    key = f"{KEY}_{os.getpid()}"
    path = Path("/dev/shm") / key[1:]
    path.write_bytes(struct.pack("<8f", 1, 2, 3, 4, 1, 1, 1, 1) + bytes(32))
    yield key
    path.unlink()


@contextmanager
def _serve(folder, more) -> Iterator[Server]:
    """Run `tritium serve` on free ports."""
    _module("models").write(folder / "models")
    log = folder / "log.txt"
    command = [sys.executable, "-c", "from tritium.cli.main import main; main()", "serve", str(folder / "models")]
    command += ["--http-port=0", "--grpc-port=0", "--no-openai", "--no-metrics", "--server-id=triton"]
    command += ["--client-shm", "--log-format=default", *more]
    with log.open("w") as output, subprocess.Popen(command, stderr=output, stdout=output) as process:
        try:
            yield Server(**_ports(process, log))
        finally:
            process.terminate()
            process.wait(30)


def _ports(process, log):
    """Wait for the lines of a started server, and read the ports from them."""
    for _ in range(READY_WITHIN_S * 10):
        text = log.read_text()
        found = {name.lower(): int(port) for name, port in re.findall(r"Started (HTTP|GRPC)\w+ at .*:(\d+)", text)}
        if len(found) == 2:
            return found
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(f"the server did not become ready:\n{log.read_text()}")


def pytest_generate_tests(metafunc):
    """Make a test of each recorded case: of HTTP, of gRPC, of raw bytes, or of a server's whole life."""
    for argument, files in CASES.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, _cases(files), ids=str)


@pytest.fixture(scope="session")
def recorded():
    """Every case there is."""
    return [case for files in CASES.values() for case in _cases(files)]


def _cases(files):
    """Read the cases of files, each of the protocol that its folder's name or its own says."""
    found = [file for pattern in files for file in sorted(HERE.glob(pattern))]
    protocols = [file.parent.name if file.parent.name in PROTOCOLS else file.stem for file in found]
    return [case for file, name in zip(found, protocols, strict=True) for case in _module(f"{name}_case").read(file)]
