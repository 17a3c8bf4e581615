"""`python -m qa.bench.processes`: several servers that share one port, and what each more of them adds.

Every process serves the same add_sub, in the process itself, so that the fronts are what is measured; wrk keeps 64
requests under way on the machine's same cores.
"""

import argparse
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from qa.bench.kserve import models
from qa.bench.kserve.load import Case, wrk
from qa.bench.kserve.server import Server, free_ports, start

CASE = Case("add_sub_inside", "http", 64)


def measure(repository: Path, scratch: Path, count: int, seconds: float) -> tuple[float, float]:
    """Return requests a second, and CPU time of all servers a request in microseconds, of so many processes."""
    (port,) = free_ports(1)
    with ExitStack() as stack:
        servers: list[Server] = []
        for index in range(count):
            line = [str(Path(sys.executable).with_name("tritium")), "serve", str(repository), "--control-mode=explicit"]
            line += [f"--load-model={CASE.model}", f"--http-port={port}", "--http-port-shared"]
            line += ["--no-grpc", "--no-metrics", "--no-openai"]
            servers.append(start(f"server {index}", line, dict(os.environ), port, 0, scratch / f"{index}.log"))
            stack.callback(servers[-1].stop)
        wrk(CASE, servers[0], 1)
        before = sum(server.cpu_s() for server in servers)
        rate, _, _ = wrk(CASE, servers[0], seconds)
        spent = sum(server.cpu_s() for server in servers) - before
    return rate, spent / (rate * seconds) * 1e6


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.processes", description=__doc__)
    parser.add_argument("--processes", default="1,2", help="how many, a row each")
    parser.add_argument("--runs", type=int, default=5, help="runs a row, in turn (medians are taken)")
    parser.add_argument("--seconds", type=float, default=3, help="seconds a run")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.processes.split(",")]
    measured: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        models.write(repository)
        for _ in range(arguments.runs):
            for count in counts:
                measured[count].append(measure(repository, Path(folder), count, arguments.seconds))
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    print("| processes | req/s | of one | CPU µs |\n|---|---|---|---|")
    one = statistics.median(rate for rate, _ in measured[counts[0]])
    for count, samples in measured.items():
        rate = statistics.median(rate for rate, _ in samples)
        print(f"| {count} | {rate:.0f} | {rate / one:.2f} | {statistics.median(cpu for _, cpu in samples):.0f} |")


if __name__ == "__main__":
    main()
