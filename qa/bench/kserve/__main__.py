"""`python -m qa.bench.kserve`: a real Triton and Tritium under the same load, run by run in turn, as a ratio table.

Both load the same python models. Rates depend on the machine's mood; the ratio of CPU time a request, measured in
the same minutes, is the figure to keep.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qa.bench.kserve import models, reference
from qa.bench.kserve.load import MIB_ELEMENTS, Case, Sample, cases, run
from qa.bench.kserve.server import Server, free_ports, start

ROOT = Path(__file__).parents[3]

COLUMNS = " | ".join(f"{what} Triton | Tritium | ratio" for what in ("p50 µs", "p99 µs", "CPU µs"))
HALF_LOAD = f"| half of what Triton takes of 8 at once | {COLUMNS} |\n|---|---|---|---|---|---|---|---|---|---|"


@contextmanager
def servers(folder: Path, scratch: Path, compiled: str) -> Iterator[tuple[Server, Server]]:
    """Start Triton and Tritium over the same models; `compiled` is where Tritium is compiled, "" for its sources."""
    repository = scratch / "models"
    models.write(repository)
    http, grpc, metrics = free_ports(3)
    line, environment = reference.command(folder, repository, http, grpc, metrics)
    triton = start("Triton", line, environment, http, grpc, scratch / "triton.log")
    try:
        http, grpc, metrics = free_ports(3)
        program = str(Path(sys.executable).with_name("tritium"))
        ports = [
            f"--http-port={http}",
            f"--grpc-port={grpc}",
            f"--metrics-port={metrics}",
            "--no-openai",
            "--client-shm",
        ]
        line = [program, "serve", str(repository), *ports]
        environment = dict(os.environ) | ({"PYTHONPATH": compiled} if compiled else {})
        tritium = start("Tritium", line, environment, http, grpc, scratch / "tritium.log")
        try:
            yield triton, tritium
        finally:
            tritium.stop()
    finally:
        triton.stop()


def row(case: Case, theirs: list[Sample], ours: list[Sample]) -> str:
    """Write one line of the table from the medians."""

    def median(samples: list[Sample], field: str) -> float:
        return statistics.median(getattr(s, field) for s in samples)

    cells = [case.name]
    for field in ("rate", "p50_us", "cpu_us"):
        a, b = median(theirs, field), median(ours, field)
        cells += [f"{a:.0f}", f"{b:.0f}", f"{b / a:.2f}"]
    if case.model == "identity":
        cells[0] += f" ({median(ours, 'rate') * MIB_ELEMENTS * 4 / 1e6:.0f} MB/s each way)"
    return "| " + " | ".join(cells) + " |"


def half_load(
    both: tuple[Server, Server], options: argparse.Namespace
) -> Iterator[tuple[Case, dict[str, list[Sample]]]]:
    """Load both with half of what the first can take, request after request at moments of their own."""
    for protocol in ("http", "grpc"):
        full = run(Case("add_sub", protocol, 8), both[0], options.folder, options.seconds).rate
        case = Case("add_sub", protocol, 0, rate=full / 2)
        yield case, measure(case, both, options)


def measure(case: Case, both: tuple[Server, Server], options: argparse.Namespace) -> dict[str, list[Sample]]:
    """Run a case in turn against both servers; return the samples by server."""
    measured: dict[str, list[Sample]] = {server.label: [] for server in both}
    for _ in range(options.runs):
        for server in both:
            measured[server.label].append(run(case, server, options.folder, options.seconds))
    return measured


def latency_row(case: Case, measured: dict[str, list[Sample]]) -> str:
    """Write one line of the table of latencies at half load from the medians."""
    cells = [case.name]
    for field in ("p50_us", "p99_us", "cpu_us"):
        a, b = (statistics.median(getattr(s, field) for s in measured[label]) for label in ("Triton", "Tritium"))
        cells += [f"{a:.0f}", f"{b:.0f}", f"{b / a:.2f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Set up, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs a case and server (medians are taken)")
    parser.add_argument("--seconds", type=float, default=2, help="seconds a run")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench" / "triton", help="where the real Triton is kept")
    parser.add_argument("--pure", action="store_true", help="run Tritium from its sources, not compiled")
    options = parser.parse_args()
    reference.set_up(options.folder)
    build = [str(ROOT / "qa" / "compiled.sh")]
    compiled = "" if options.pure else subprocess.check_output(build, text=True).strip()
    print(
        "| case | req/s Triton | Tritium | ratio | p50 µs Triton | Tritium | ratio | CPU µs Triton | Tritium | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch, servers(options.folder, Path(scratch), compiled) as both:
        for case in cases():
            if options.only not in case.name:
                continue
            measured = measure(case, both, options)
            print(row(case, measured["Triton"], measured["Tritium"]), flush=True)
        if not options.only or options.only in "half load":
            print(f"\n{HALF_LOAD}", flush=True)
            for case, measured in half_load(both, options):
                print(latency_row(case, measured), flush=True)
    print(
        f"\nMedians of {options.runs} runs of {options.seconds:.0f} s, in turn; Tritium "
        f"{'compiled' if compiled else 'from its sources'}. Load average: {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
