"""A real server as a user starts it: `tritium serve` in a process of its own, on free ports."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRITIUM = str(Path(sys.executable).with_name("tritium"))
_ENDPOINT = re.compile(r"^(HTTP|gRPC|metrics|OpenAI)\s+(?:https?://)?localhost:(\d+)", re.MULTILINE)


def descendants(pid: int) -> set[int]:
    """Return the pids of all processes below `pid`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = set(), [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found |= set(below)
        waiting += below
    return found


def alive(pids: set[int]) -> set[int]:
    """Return those that still run (a zombie does not)."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.add(pid)
    return running


class Product:
    """A running server: its ports by protocol, its output so far, and how to end it."""

    def __init__(
        self, arguments: Sequence[str], environment: dict[str, str] | None = None, wait_s: float = 150
    ) -> None:
        free = ["--http-port=0", "--grpc-port=0", "--metrics-port=0", "--openai-port=0"]
        self.process = subprocess.Popen(
            [TRITIUM, "serve", *arguments, *free],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._settled = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._settled.wait(wait_s):
            self.kill()
            raise TimeoutError(f"not ready after {wait_s} s:\n{self.output}")
        self.ports = {name: int(port) for name, port in _ENDPOINT.findall(self.output)}

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)
            if line.startswith("Ready in "):
                self._settled.set()
        self._settled.set()

    @property
    def output(self) -> str:
        """Return what the server has written to standard error."""
        return "".join(self._lines)

    def url(self, protocol: str) -> str:
        """Return host:port of a protocol: HTTP, gRPC, metrics or OpenAI."""
        return f"localhost:{self.ports[protocol]}"

    def wait_for(self, text: str, timeout_s: float = 60) -> None:
        """Wait until the output contains `text`."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output:
            assert time.monotonic() < deadline, f"no {text!r} within {timeout_s} s:\n{self.output}"
            time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 90) -> int:
        """End the server by a signal and return its exit status."""
        self.process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 90) -> int:
        """Wait for the server to end and return its exit status."""
        try:
            return self.process.wait(timeout_s)
        finally:
            self._reader.join(60)
            if self.process.stderr is not None:
                self.process.stderr.close()

    def kill(self) -> None:
        """End the server and everything it started, at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait(60)
