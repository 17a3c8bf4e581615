"""Servers under load: started on free ports, asked for readiness and counts, their CPU time read, ended by pid."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def tree_cpu_s(root: int) -> float:
    """Return user and system time of a process and all its descendants, in seconds."""
    parents: dict[int, list[int]] = {}
    spent: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
        spent[int(entry.name)] = int(fields[11]) + int(fields[12])
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        total += spent.get(pid, 0)
        waiting += parents.get(pid, [])
    return total / _TICKS


@dataclass(slots=True)
class Server:
    """A running server and where it listens."""

    label: str
    process: subprocess.Popen[bytes]
    http: int
    grpc: int

    def served(self, model: str) -> int:
        """Return how many requests of a model have succeeded."""
        url = f"http://127.0.0.1:{self.http}/v2/models/{model}/stats"
        with urllib.request.urlopen(url, timeout=10) as answer:
            stats = json.load(answer)
        return int(stats["model_stats"][0]["inference_stats"]["success"]["count"])

    def cpu_s(self) -> float:
        """Return user and system time of the process and all its descendants, in seconds."""
        return tree_cpu_s(self.process.pid)

    def stop(self) -> None:
        """End the server, politely first."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(
    label: str,
    line: list[str],
    environment: dict[str, str],
    http: int,
    grpc: int,
    log: Path,
    *,
    ready: str = "/v2/health/ready",
    wait_s: float = 120,
) -> Server:
    """Start a server and wait until it is ready.

    Raises:
        RuntimeError: it ended, or was not ready within `wait_s`; the message holds the end of its log.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(line, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    server = Server(label, process, http, grpc)
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http}{ready}", timeout=2) as answer:
                if answer.status == 200:
                    return server
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    server.stop()
    raise RuntimeError(f"{label} did not become ready:\n{log.read_text(errors='replace')[-2000:]}")
