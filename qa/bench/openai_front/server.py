"""Servers under load: the product over an engine that computes nothing, started, read and ended by pid."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qa.bench.openai_front.model import CONTEXT_TOKENS

MODEL = "front"


@dataclass(slots=True)
class Server:
    """A running front; `engines` are processes started beside it, its own children not among them."""

    label: str
    front: subprocess.Popen[bytes]
    port: int
    engines: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def workers(self) -> list[int]:
        """Return the pids of what runs the models: children of the front, and engines beside it."""
        found = [engine.pid for engine in self.engines]
        for task in Path(f"/proc/{self.front.pid}/task").iterdir():
            found += [int(pid) for pid in (task / "children").read_text().split()]
        return found

    @property
    def memory_mb(self) -> float:
        """Return the resident memory of the front's process."""
        pages = int(Path(f"/proc/{self.front.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> None:
        """End the server, politely first."""
        for process in (self.front, *self.engines):
            process.send_signal(signal.SIGTERM)
        for process in (self.front, *self.engines):
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cpu_s(pid: int) -> float:
    """Return the time a process and all threads it ever had have spent on processors.

    The clock of another process, by clock_getcpuclockid(3): to the nanosecond, where /proc counts in ticks.
    """
    return time.clock_gettime((~pid << 3) | 2)


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def start(
    model: Path,
    workers: int,
    scratch: Path,
    compiled: str = "",
    *,
    engine: Mapping[str, Any] | None = None,
    fleet: str = "",
) -> Server:
    """Start Tritium over mock workers and wait until it is ready; `compiled` is where it is compiled, "" for sources.

    `engine` are further arguments of the mocker, `fleet` further options of the fleet's setting.

    Raises:
        RuntimeError: it ended, or was not ready within a minute; the message holds the end of its log.
    """
    repository = scratch / "models"
    version = repository / MODEL / "1"
    version.mkdir(parents=True, exist_ok=True)
    (repository / MODEL / "config.pbtxt").write_text('backend: "vllm"\n')
    arguments = {"model": str(model), "max_model_len": CONTEXT_TOKENS, "num_gpu_blocks_override": 65536}
    arguments |= engine or {}
    (version / "model.json").write_text(json.dumps(arguments))
    port = free_port()
    line = [str(Path(sys.executable).with_name("tritium")), "serve", str(repository), "--engine=mocker"]
    line += ["--host=127.0.0.1", "--no-http", "--no-grpc", "--no-metrics", f"--openai-port={port}"]
    line += [f"--fleet={MODEL}=workers={workers}{fleet and ','}{fleet}"]
    environment = dict(os.environ) | ({"PYTHONPATH": compiled} if compiled else {})
    log = scratch / "tritium.log"
    with log.open("wb") as out:
        process = subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT, env=environment)
    return wait_for(Server("Tritium", process, port), MODEL, log, 60)


def wait_for(server: Server, model: str, log: Path, seconds: float) -> Server:
    """Wait until a server lists the model, and return it.

    Raises:
        RuntimeError: it ended or took too long; it is stopped, and the message holds the end of its log.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.front.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v1/models", timeout=2) as answer:
                if any(card["id"] == model for card in json.load(answer)["data"]):
                    return server
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.1)
    server.stop()
    raise RuntimeError(f"{server.label} did not get ready:\n{log.read_text(errors='replace')[-2000:]}")
