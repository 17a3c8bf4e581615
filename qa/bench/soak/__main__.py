"""`python -m qa.bench.soak --minutes M`: mixed load on the sample models, and what the server holds over time.

The load pauses while they are looked at: after a minute of warm-up, in the middle and at the end. The exit status is 1
if memory or open files grew by more than 5 % after the warm-up, a process came or went, or a request went wrong.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from qa.bench.soak import processes
from qa.bench.soak.cases import CASES, CHURNED
from qa.bench.soak.load import Load
from qa.bench.soak.processes import Process
from qa.e2e.product import ROOT, Product, alive, descendants

WARM_UP_S = 60
SETTLE_S = 10
"""How long what clients left behind may take to be gone."""
GROWTH = 1.05
KV_BYTES = 8 << 20


def main() -> int:
    """Run the soak and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="of load, the minute of warm-up included")
    minutes = parser.parse_args().minutes
    shared = set(Path("/dev/shm").iterdir())
    with tempfile.TemporaryDirectory(prefix="tritium-soak-") as folder:
        repository = _repository(Path(folder))
        names = [f"--load-model={one.name}" for one in sorted(repository.iterdir()) if one.name != CHURNED]
        product = Product(
            [str(repository), "--control-mode=explicit", *names, "--engine=embedded", "--client-shm"], wait_s=120
        )
        try:
            problems = _soak(product, minutes * 60)
            family = {product.process.pid, *descendants(product.process.pid)}
            status = product.stop()
        finally:
            product.kill()
    if status:
        problems.append(f"the server ended with status {status}:\n{product.output[-3000:]}")
    if alive(family):
        problems.append(f"processes left: {sorted(alive(family))}")
    if left := {path for path in set(Path("/dev/shm").iterdir()) - shared if "tritium" in path.name}:
        problems.append(f"left in /dev/shm: {sorted(left)}")
    for problem in problems:
        print(f"FAILED: {problem}")
    return 1 if problems else 0


def _repository(folder: Path) -> Path:
    repository = folder / "models"
    shutil.copytree(ROOT / "model_repository", repository)
    churned = repository / CHURNED
    shutil.copytree(repository / "add_sub_python", churned)
    config = churned / "config.pbtxt"
    config.write_text(config.read_text().replace('"add_sub_python"', f'"{CHURNED}"'))
    engine = repository / "tiny_chat" / "1" / "model.json"
    settings = json.loads(engine.read_text())
    # The pages of the KV cache are first touched as chats come: so few that the warm-up touches them all.
    engine.write_text(json.dumps({**settings, "kv_cache_memory_bytes": KV_BYTES}))
    return repository


def _soak(product: Product, seconds: float) -> list[str]:
    """Load the server for so long, print what it held, and return what is wrong."""
    load = Load(product, CASES)
    try:
        samples: list[list[Process]] = []
        began = time.monotonic()
        for title, at_s in (("start", WARM_UP_S), ("middle", (WARM_UP_S + seconds) / 2), ("end", seconds)):
            time.sleep(max(0.0, began + at_s - time.monotonic()))
            load.pause()
            samples.append(_look(product, samples[0] if samples else []))
            _show(title, time.monotonic() - began, samples[-1])
            load.go_on()
    finally:
        load.end()
    print("\n| case | done |\n|---|---|")
    for case, count in sorted(load.done.items()):
        print(f"| {case} | {count} |")
    print(f"\nerrors: {sum(load.errors.values())}")
    problems = [f"{count} times {kind}" for kind, count in load.errors.items()]
    return problems + _growth(samples[0], samples[-1])


def _look(product: Product, before: Sequence[Process]) -> list[Process]:
    """Look until the server holds no more than before, or for as long as it may take to settle."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        sample = processes.look(product.process.pid)
        settled = before and not _growth(before, sample)
        if settled or time.monotonic() > deadline:
            return sample
        time.sleep(0.5)


def _growth(before: Sequence[Process], after: Sequence[Process]) -> list[str]:
    problems = []
    for what, measure in (("memory", processes.resident_bytes), ("open files", processes.open_files)):
        if measure(after) > measure(before) * GROWTH:
            problems.append(f"{what} grew from {measure(before):,} to {measure(after):,}")
    known = {process.pid: process for process in before}
    for process in after:
        if process.pid not in known:
            problems.append(f"process {process.pid} ({process.name}) has come")
        elif process.resident_bytes > known[process.pid].resident_bytes * GROWTH:
            problems.append(f"process {process.pid} ({process.name}) grew by more than 5 %")
    gone = {process.pid for process in before} - {process.pid for process in after}
    return problems + [f"process {pid} has gone" for pid in sorted(gone)]


def _show(title: str, at_s: float, sample: Sequence[Process]) -> None:
    print(f"\n{title}, {at_s:.0f} s\n\n| process | name | RSS MB | open files |\n|---|---|---|---|")
    for process in sample:
        print(f"| {process.pid} | {process.name} | {process.resident_bytes / 1e6:.1f} | {process.open_files} |")
    total = processes.resident_bytes(sample) / 1e6
    print(f"| all | | {total:.1f} | {processes.open_files(sample)} |", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
