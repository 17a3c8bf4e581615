"""One run of load at one server: wrk for small requests over HTTP, perf_analyzer for the rest."""

import csv
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from qa.bench.kserve.reference import perf_analyzer
from qa.bench.kserve.server import Server

MIB_ELEMENTS = 262_144
_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked of which model, over what (http, grpc, stream; memory shares tensors), by how many at once."""

    model: str
    protocol: str
    concurrency: int
    memory: bool = False
    rate: float = 0.0
    """Requests a second, at moments of their own whatever the server does; 0: each client the next after the last."""

    @property
    def name(self) -> str:
        """Return what the table calls it."""
        if self.rate:
            return f"{self.model} {self.protocol}, {self.rate:.0f} a second"
        return f"{self.model} {self.protocol}{' shm' if self.memory else ''}, {self.concurrency} at once"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run measured: requests a second, latencies and server CPU time a request in microseconds."""

    rate: float
    p50_us: float
    p99_us: float
    cpu_us: float


def cases() -> list[Case]:
    """Return every case of the table."""
    both, three = ("http", "grpc"), (1, 8, 32)
    return [
        *(Case("add_sub", protocol, many) for protocol in (*both, "stream") for many in three),
        *(Case("add_sub_inside", protocol, 8) for protocol in both),
        *(Case("add_sub_batch", protocol, 32) for protocol in both),
        *(Case(model, protocol, 8) for model in ("add_sub_thrice", "add_sub_bls") for protocol in both),
        *(Case("identity", protocol, many) for protocol in both for many in (1, 8)),
        *(Case("identity", protocol, 8, memory=True) for protocol in both),
    ]


def run(case: Case, server: Server, folder: Path, seconds: float) -> Sample:
    """Load a server for some seconds.

    Raises:
        RuntimeError: the load generator failed, or the server answered errors.
    """
    served, cpu = server.served(case.model), server.cpu_s()
    if case.protocol == "http" and case.model != "identity" and not case.rate:
        rate, p50, p99 = wrk(case, server, seconds)
    else:
        rate, p50, p99 = _perf_analyzer(case, server, folder, seconds)
    count = server.served(case.model) - served
    return Sample(rate, p50, p99, (server.cpu_s() - cpu) / max(count, 1) * 1e6)


def wrk(case: Case, server: Server, seconds: float) -> tuple[float, float, float]:
    """Load a server with small binary requests; return requests a second, p50 and p99 in microseconds.

    Raises:
        RuntimeError: the server answered errors.
    """
    script = Path(__file__).with_name("post.lua")
    url = f"http://127.0.0.1:{server.http}"
    line = ["wrk", "-t1", f"-c{case.concurrency}", f"-d{seconds:.0f}s", "--latency", "-s", str(script), url]
    environment = {**os.environ, "MODEL": case.model} | ({"BATCHED": "1"} if case.model == "add_sub_batch" else {})
    out = subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out:
        raise RuntimeError(f"{server.label} answered errors to {case.name}:\n{out}")

    def latency(percent: str) -> float:
        found = re.search(percent + r"%\s+([\d.]+)(us|ms|s)", out)
        assert found is not None, out
        return float(found[1]) * _UNITS[found[2]]

    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert rate is not None, out
    return float(rate[1]), latency("50"), latency("99")


def _perf_analyzer(case: Case, server: Server, folder: Path, seconds: float) -> tuple[float, float, float]:
    line, environment = perf_analyzer(folder)
    http = case.protocol == "http"
    port = server.http if http else server.grpc
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch, "result.csv")
        line += ["-m", case.model, "-u", f"127.0.0.1:{port}", "-i", "http" if http else "grpc", "-f", str(table)]
        # Three windows a run, whatever their spread: the runs are interleaved and the medians taken outside.
        line += ["-p", f"{seconds * 333:.0f}", "-r", "3", "-s", "999"]
        if case.rate:
            line += ["--request-rate-range", f"{case.rate:.0f}", "--request-distribution", "poisson", "--async"]
        else:
            line += ["--concurrency-range", str(case.concurrency)]
        if case.model == "identity":
            line += ["--shape", f"INPUT0:{MIB_ELEMENTS}"]
        if case.protocol == "stream":
            line += ["--streaming", "--async"]
        if case.memory:
            line += ["--shared-memory", "system", "--output-shared-memory-size", str(MIB_ELEMENTS * 4)]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=120)
        if not table.exists():
            raise RuntimeError(
                f"perf_analyzer at {server.label}, {case.name}:\n{done.stdout[-800:]}{done.stderr[-800:]}"
            )
        row = list(csv.DictReader(table.open()))[-1]
    return float(row["Inferences/Second"]), float(row["p50 latency"]), float(row["p99 latency"])
