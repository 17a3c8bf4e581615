"""A whole server in a process of its own, over models that cost nothing, and what it holds."""

import contextlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

READY_WITHIN_S = 150
IDENTITY = """
backend: "identity"
max_batch_size: {batch}
input {{ name: "INPUT0" data_type: TYPE_{kind} dims: -1 }}
output {{ name: "OUTPUT0" data_type: TYPE_{kind} dims: -1 }}
"""
MODELS = {"fp32": ("FP32", 0), "fp32_batch": ("FP32", 8), "bytes": ("STRING", 0), "int8": ("INT8", 0)}


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen
    log: Path
    http: int
    grpc: int
    read_to: int = 0
    """How much of the log `faults` has read."""

    def descriptors(self) -> int:
        """Count the open files, sockets among them."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def resident_bytes(self) -> int:
        """Return how much memory the process holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def faults(self) -> list[str]:
        """Return the lines of the log that tell of a fault of ours, since this was last asked."""
        marks = ("handler_failed", "Traceback", "never retrieved", "never awaited")
        with self.log.open() as log:
            log.seek(self.read_to)
            lines = log.readlines()
            self.read_to = log.tell()
        return [line for line in lines if any(mark in line for mark in marks)]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A repository of models that run within the server."""
    folder = tmp_path_factory.mktemp("models")
    for name, (kind, batch) in MODELS.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(IDENTITY.format(kind=kind, batch=batch))
    return folder


@contextlib.contextmanager
def running(models, log, *options):
    """Run `tritium serve` with these options, until the block ends."""
    command = [sys.executable, "-c", "from tritium.cli.main import main; main()", "serve", str(models)]
    command += ["--no-openai", "--no-metrics", "--client-shm", "--log-format=default", *options]
    with log.open("w") as output, subprocess.Popen(command, stderr=output, stdout=output) as process:
        try:
            yield Server(process, log, **_ports(process, log))
        finally:
            process.terminate()
            process.wait(90)


@pytest.fixture(scope="session")
def server(models, tmp_path_factory):
    """A server on free ports, until the session ends."""
    with running(models, tmp_path_factory.mktemp("wire") / "log.txt", "--http-port=0", "--grpc-port=0") as started:
        yield started


def _ports(process, log):
    for _ in range(READY_WITHIN_S * 10):
        found = re.findall(r"Started (HTTP|GRPC)\w+ at .*:(\d+)", log.read_text())
        if len(found) == 2:
            return {name.lower(): int(port) for name, port in found}
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(f"the server did not become ready:\n{log.read_text()}")
