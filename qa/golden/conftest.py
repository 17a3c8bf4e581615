import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
READY_WITHIN_S = 60


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
def server(tmp_path_factory):
    """`tritium serve`, on free ports, until the session ends."""
    folder = tmp_path_factory.mktemp("golden")
    _module("models").write(folder / "models")
    log = folder / "log.txt"
    command = [sys.executable, "-c", "from tritium.cli.main import main; main()", "serve", str(folder / "models")]
    command += ["--http-port=0", "--grpc-port=0", "--no-openai", "--no-metrics", "--server-id=triton"]
    command += ["--client-shm", "--log-format=default"]
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
    """Make a test of each recorded case: of HTTP for `http_case`, of gRPC for `grpc_case`."""
    for protocol, module in (("http", "http_case"), ("grpc", "grpc_case")):
        if module in metafunc.fixturenames:
            files = sorted((HERE / protocol).glob("*.txt"))
            cases = [case for file in files for case in _module(module).read(file)]
            metafunc.parametrize(module, cases, ids=str)
