"""The product over an engine that computes nothing: `tritium serve` with one mock worker, started and ended by pid."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

MODEL = "front"


@dataclass(slots=True)
class Server:
    """A running server; `workers` are the pids of its children."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def workers(self) -> list[int]:
        """Return the pids of the server's child processes."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += [int(pid) for pid in (task / "children").read_text().split()]
        return found

    def stop(self) -> None:
        """End the server, politely first."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cpu_s(pid: int) -> float:
    """Return the time a process has spent on processors, all threads, to the nanosecond where the kernel tells it."""
    spent_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent_ns += int((task / "schedstat").read_text().split()[0])
    return spent_ns / 1e9


def write_repository(folder: Path, tokenizer: Path) -> None:
    """Write a repository with one language model that has a tokenizer and no weights."""
    version = folder / MODEL / "1"
    weights = version / "weights"
    weights.mkdir(parents=True)
    (folder / MODEL / "config.pbtxt").write_text('backend: "vllm"\n')
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (weights / name).write_bytes((tokenizer / name).read_bytes())
    arguments = {"model": "weights", "max_model_len": 4096, "num_gpu_blocks_override": 65536}
    (version / "model.json").write_text(json.dumps(arguments))


def start(repository: Path, log: Path) -> Server:
    """Start the server and wait until its model is ready.

    Raises:
        RuntimeError: it ended, or was not ready within a minute; the message holds the end of its log.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    line = [str(Path(sys.executable).with_name("tritium")), "serve", str(repository), "--engine=mock"]
    line += ["--host=127.0.0.1", "--no-http", "--no-grpc", "--no-metrics", f"--openai-port={port}"]
    with log.open("wb") as out:
        process = subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT, env=dict(os.environ))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=2) as answer:
                if json.load(answer)["data"]:
                    return Server(process, port)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.1)
    process.kill()
    process.wait()
    raise RuntimeError(f"the server did not get ready:\n{log.read_text()[-2000:]}")
