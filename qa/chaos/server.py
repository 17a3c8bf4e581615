"""A server with a fleet to do harm to: its workers by name, and what it must not leave behind."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from qa.bench.openai_front.server import free_port
from qa.e2e.product import alive, descendants

TRITIUM = str(Path(sys.executable).with_name("tritium"))
READY_S = 180.0
END_S = 90.0


class FleetServer:
    """`tritium serve` with one language model, in a process of its own."""

    def __init__(self, scratch: Path, model: Path, engine: str, fleet: str, arguments: dict[str, Any]) -> None:
        self.name = "fleet"
        self.scratch = scratch
        version = scratch / "models" / self.name / "1"
        version.mkdir(parents=True, exist_ok=True)
        (version.parent / "config.pbtxt").write_text('backend: "vllm"\n')
        (version / "model.json").write_text(json.dumps({"model": str(model)} | arguments))
        self.port = free_port()
        self.http_port = free_port()
        self.metrics_port = free_port()
        self._line = [TRITIUM, "serve", str(scratch / "models"), f"--engine={engine}", "--host=127.0.0.1"]
        self._line += [
            "--no-grpc",
            f"--http-port={self.http_port}",
            f"--metrics-port={self.metrics_port}",
            f"--openai-port={self.port}",
        ]
        self._line += [f"--fleet={self.name}={fleet}"]
        self._log = (scratch / "server.log").open("ab")
        self.seen: set[int] = set()
        """Every process there ever was."""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it lists the model.

        Raises:
            RuntimeError: it ended, or took too long; the message ends with its log.
        """
        # Scratch folders of workers are made in TMPDIR: what stays there afterwards was left behind.
        (self.scratch / "tmp").mkdir(exist_ok=True)
        environment = {**os.environ, "TMPDIR": str(self.scratch / "tmp")}
        self.process = subprocess.Popen(self._line, stdout=self._log, stderr=subprocess.STDOUT, env=environment)
        self.seen.add(self.process.pid)
        deadline_s = time.monotonic() + READY_S
        while time.monotonic() < deadline_s and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models", timeout=60) as answer:
                    if json.load(answer)["data"]:
                        return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            time.sleep(0.05)
        log = (self.scratch / "server.log").read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"the server did not get ready:\n{log[-3000:]}")

    def workers(self) -> dict[str, int]:
        """Return the pids of the workers there are now, by name."""
        assert self.process is not None
        found: dict[str, int] = {}
        for pid in descendants(self.process.pid):
            with suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                if "tritium.cluster.worker" in line:
                    folder = Path(line[line.index("--scratch") + 1]).name
                    found[folder.removeprefix("tritium-").rpartition("-")[0]] = pid
        self.seen |= set(found.values())
        return found

    def metric(self, name: str) -> float:
        """Return the sum of a metric over all its labels."""
        return sum(self.by_worker(name).values())

    def by_worker(self, name: str) -> dict[str, float]:
        """Return a metric by the label `worker`, "" where it has none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        found: dict[str, float] = {}
        for line in lines:
            if line.partition("{")[0] == name:
                worker = line.partition('worker="')[2].partition('"')[0]
                found[worker] = found.get(worker, 0.0) + float(line.rpartition(" ")[2])
        return found

    def kill_front(self) -> None:
        """kill -9 the server itself, and start it again: its workers go with it."""
        assert self.process is not None
        self.workers()
        self.process.kill()
        self.process.wait()
        self.start()

    def stop(self) -> None:
        """End it, politely first."""
        if self.process is None:
            return
        self.workers()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def left(self) -> list[str]:
        """Return what is still there after the end: processes, and what was not removed from its temporary folder."""
        deadline_s = time.monotonic() + END_S
        while (running := alive(self.seen)) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        return [f"process {pid}" for pid in running] + [str(path) for path in (self.scratch / "tmp").iterdir()]
