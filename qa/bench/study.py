"""`python -m qa.bench.study --traces FOLDER`: the table of docs/router.md's study, and its plots, made anew.

Plays Mooncake's conversation and synthetic traces at full size through simulated fleets, a copy of the trace for every
eight workers, once by every policy. It takes half an hour for all; `--workers 8` takes a minute.
"""

import argparse
from pathlib import Path

from tritium.cluster.spec import FleetSpec
from tritium.simulation.plot import draw
from tritium.simulation.scenario import Scenario, play
from tritium.simulation.summary import Goal, Summary
from tritium.simulation.traces import read_trace

POLICIES = "kv,round_robin,least_loaded,dynamo,dynamo:4"
TRACES = ("conversation", "synthetic")
ENGINE = {
    "max_num_batched_tokens": 8192,
    "max_num_seqs": 256,
    "mocker": {"gpu": "h100", "gpus": 1, "model": "8b", "precision": "bf16"},
}
"""What `tritium simulate` gives its engines by default."""

COPY_WORKERS = 8


def scenario(path: Path, workers: int, pace: float) -> Scenario:
    """Return a trace and a fleet of that size, at the load of all sizes."""
    workload = read_trace(path, pace=pace, copies=workers // COPY_WORKERS)
    return Scenario(FleetSpec(workers=workers), workload, ENGINE, Goal())


def cell(summary: Summary) -> str:
    """Return the first token's p50, p99 and mean in ms, good requests and hits."""
    first_ms = " / ".join(f"{s * 1e3:.0f}" for s in (summary.ttft_p50_s, summary.ttft_p99_s, summary.ttft_mean_s))
    return f"{first_ms}, {summary.good_share:.1%}, {summary.hit_ratio:.3f}"


def main() -> None:
    """Print the table: a row a trace and size, a column a policy."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.study", description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, help="the folder of conversation_trace.jsonl and so on")
    parser.add_argument("--workers", default="8,16,32,64", help="sizes of the fleet, each a multiple of 8")
    parser.add_argument("--policies", default=POLICIES)
    parser.add_argument("--pace", type=float, default=1.15, help="how much faster than recorded")
    parser.add_argument("--plots", type=Path, help="a folder to write an SVG a row into")
    arguments = parser.parse_args()
    policies = arguments.policies.split(",")
    print(f"| trace, workers | {' | '.join(f'`{policy}`' for policy in policies)} |")
    print("|---" * (len(policies) + 1) + "|")
    for trace in TRACES:
        for workers in map(int, arguments.workers.split(",")):
            played = scenario(arguments.traces / f"{trace}_trace.jsonl", workers, arguments.pace)
            outcomes = [play(played, policy) for policy in policies]
            cells = " | ".join(cell(outcome.summary) for outcome in outcomes)
            print(f"| {trace}, {workers} | {cells} |", flush=True)
            if arguments.plots is not None:
                arguments.plots.mkdir(parents=True, exist_ok=True)
                (arguments.plots / f"{trace}-{workers}.svg").write_text(draw(f"{trace}, {workers} workers", outcomes))


if __name__ == "__main__":
    main()
