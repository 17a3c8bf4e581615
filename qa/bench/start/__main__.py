"""`python -m qa.bench.start`: how long a server takes to be ready, what it holds, and how fast it answers about itself.

One table row for each kind of model and number of models; memory is the proportional share of all its processes.
"""

import argparse
import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qa.bench.kserve.server import free_ports

from tritium.repository.memory import used_bytes

READY_WITHIN_S = 600
ASKED = 9
"""How often each page is asked for; the median counts."""

IO = (
    "input { name: 'INPUT0' data_type: TYPE_FP32 dims: [ 4 ] }\n"
    "output { name: 'OUTPUT0' data_type: TYPE_FP32 dims: [ 4 ] }\n"
    "instance_group { kind: KIND_CPU }\n"
)
MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "INPUT0") for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", one.as_numpy())]) for one in inputs]
"""
KINDS = {
    "identity": f"backend: 'identity'\n{IO}",
    "python": f"backend: 'python'\n{IO}",
    "python, in_process": (
        f"backend: 'python'\n{IO}parameters {{ key: 'EXECUTION_MODE' value {{ string_value: 'in_process' }} }}\n"
    ),
}
PAGES = (
    ("ready", "GET", "/v2/health/ready"),
    ("index", "POST", "/v2/repository/index"),
    ("metrics", "GET", "/metrics"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one server showed: durations in seconds, memory in bytes, pages in milliseconds by name."""

    ready_s: float
    memory_bytes: int
    pages_ms: dict[str, float]


def write(repository: Path, kind: str, models: int) -> None:
    """Write a repository of models that differ in their names alone."""
    for number in range(models):
        version = repository / f"model_{number:04}" / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(KINDS[kind])
        if kind.startswith("python"):
            (version / "model.py").write_text(MODEL)


@contextmanager
def server(repository: Path, log: Path, threads: int) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """Start a server; give its process and its ports of HTTP and of metrics."""
    port, grpc, metrics = free_ports(3)
    line = [str(Path(sys.executable).with_name("tritium")), "serve", str(repository), "--no-openai"]
    line += [f"--http-port={port}", f"--grpc-port={grpc}", f"--metrics-port={metrics}", f"--load-threads={threads}"]
    with log.open("wb") as output:
        process = subprocess.Popen(line, stdout=output, stderr=output)
        try:
            yield process, port, metrics
        finally:
            process.terminate()
            process.wait(120)


def ask(port: int, method: str, path: str) -> tuple[int, float]:
    """Ask for a page; return its status and how long it took, in milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        began = time.perf_counter()
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        return answer.status, (time.perf_counter() - began) * 1e3
    finally:
        connection.close()


def measure(kind: str, models: int, threads: int) -> Sample:
    """Start a server over a repository of its own, and look at it once it is ready."""
    with tempfile.TemporaryDirectory(prefix="tritium-bench-") as scratch:
        repository, log = Path(scratch, "models"), Path(scratch, "log")
        write(repository, kind, models)
        began = time.perf_counter()
        with server(repository, log, threads) as (process, port, metrics):
            wait_until_ready(process, port, log)
            ready_s = time.perf_counter() - began
            pages = {}
            for name, method, path in PAGES:
                where = metrics if name == "metrics" else port
                pages[name] = statistics.median(ask(where, method, path)[1] for _ in range(ASKED))
            return Sample(ready_s, used_bytes(process.pid), pages)


def wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Ask for readiness until it is given."""
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"the server ended:\n{log.read_text()[-2000:]}")
        try:
            if ask(port, "GET", "/v2/health/ready")[0] == 200:
                return
        except OSError:
            pass  # its port is not open yet
        time.sleep(0.02)
    raise SystemExit(f"the server was not ready in {READY_WITHIN_S} s")


def main() -> None:
    """Measure every kind at every number, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.start", description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[1, 100, 1000], help="numbers of models")
    parser.add_argument("--kinds", nargs="+", default=["identity", "python, in_process"], choices=list(KINDS))
    parser.add_argument("--threads", type=int, default=4, help="--load-threads of the server")
    arguments = parser.parse_args()
    print("| models | kind | ready after s | memory MB | ready ms | index ms | metrics ms |")
    print("|---|---|---|---|---|---|---|")
    for kind in arguments.kinds:
        for models in arguments.models:
            one = measure(kind, models, arguments.threads)
            cells = [str(models), kind, f"{one.ready_s:.2f}", f"{one.memory_bytes / 1e6:.0f}"]
            cells += [f"{one.pages_ms[name]:.1f}" for name, _, _ in PAGES]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
