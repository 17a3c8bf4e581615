"""`TRITIUM_CORPUS=FOLDER python -m qa.bench.migrate_deployments`: deployments of a corpus moved, proven and moved back.

Each is audited, planned and applied in place by dynamo-migrate, served by Tritium with the flags of its own launch
file, compared by `verify` with a real Triton that serves the original, over HTTP and gRPC, and rolled back to the
byte. The reference is Triton 2.51 with the python backend only (qa/bench/kserve installs it): there python models run
ONNX and TorchScript files by their libraries, and one of vllm_backend's form asks vLLM's own server. Exits with 1
where anything differs. With TRITIUM_SOURCES=FOLDER, clones called OWNER+NAME, models run their original files.
"""

import argparse
import filecmp
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qa.bench.kserve import reference
from qa.bench.kserve.server import Server, free_ports, start
from qa.bench.migrate_deployments.filling import Filled, fill, for_reference
from qa.bench.migrate_deployments.recipes import RECIPES, Recipe
from qa.bench.verify.__main__ import FOLDER, start_language_model
from rich.console import Console
from rich.table import Table

_PROGRAM = Path(sys.executable).parent
_OURS = ("--model-repository", "--model-store", "--http-port", "--grpc-port", "--metrics-port", "--allow-metrics")
# Instances that ask for a GPU run on the CPU here; vLLM takes one core and 1 GiB.
_WITHOUT_GPU = {"TRITIUM_CPU_FOR_GPU": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0"}


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one deployment: per model its verdict by protocol, and whether rollback gave every byte back."""

    recipe: Recipe
    filled: Filled
    changes: int
    flags: str
    verdicts: dict[str, dict[str, Any]]
    restored: bool
    failure: str = ""
    """Why a step of it did not succeed; then nothing is proven."""

    @property
    def proven(self) -> bool:
        """Tell whether nothing differs, every model is compared over one protocol or both, and all bytes are back."""
        return (
            self.restored
            and bool(self.verdicts)
            and all("same" in by.values() and "differs" not in by.values() for by in self.standings().values())
        )

    def standings(self) -> dict[str, dict[str, str]]:
        """Return per model how it fared over each protocol."""
        return {name: {key: one["is"] for key, one in by.items()} for name, by in self.verdicts.items()}


def main() -> int:
    """Move the deployments that are asked for, and print what became of them."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.migrate_deployments", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="DEPLOYMENT", help="by default all that there is a recipe for")
    parser.add_argument("--keep", type=Path, help="a new folder for the deployments, servers' logs and reports")
    arguments = parser.parse_args()
    corpus, clones = os.environ.get("TRITIUM_CORPUS"), os.environ.get("TRITIUM_SOURCES")
    if not corpus or not Path(corpus, "deployments").is_dir():
        parser.error("TRITIUM_CORPUS names no folder with a `deployments` folder of Triton deployments")
    chosen = [recipe for recipe in RECIPES if not arguments.only or recipe.deployment in arguments.only]
    reference.set_up(FOLDER)
    moved = []
    with tempfile.TemporaryDirectory() as scratch:
        home = arguments.keep or Path(scratch)
        for recipe in chosen:
            print(f"[bench] {recipe.deployment}", file=sys.stderr)
            source = Path(corpus, "deployments", recipe.deployment)
            moved.append(move(recipe, source, Path(clones) if clones else None, home / recipe.deployment))
            print(f"[bench] {'proven' if moved[-1].proven else 'NOT proven'}", file=sys.stderr)
    show(moved)
    return 0 if moved and all(one.proven for one in moved) else 1


def move(recipe: Recipe, source: Path, clones: Path | None, scratch: Path) -> Moved:
    """Take one deployment from audit to rollback, in `scratch`, which is made."""
    scratch.mkdir(parents=True)
    work, before, plan = scratch / "deployment", scratch / "before", scratch / "plan.json"
    filled = fill(recipe, source, clones, work)
    shutil.copytree(work, before)
    answers = scratch / "answers.yaml"
    migrate("plan", str(work), "-o", str(plan), "--answers", str(answers), "--no-diff")
    migrate("apply", str(plan), "--in-place")
    changes = len(json.loads(plan.read_text())["changes"])
    flags = launch_flags(work)
    verdicts, failure = {}, ""
    try:
        verdicts = compare(recipe, filled, before, work, flags, scratch)
    except RuntimeError as error:
        failure = str(error)
    migrate("rollback", str(work))
    restored = not _different(filecmp.dircmp(before, work))
    return Moved(recipe, filled, changes, shlex.join(flags), verdicts, restored, failure)


def migrate(*arguments: str, statuses: Sequence[int] = (0,)) -> str:
    """Run dynamo-migrate and return what it printed.

    Raises:
        RuntimeError: it ended with another status; the message holds its output.
    """
    done = subprocess.run([_PROGRAM / "dynamo-migrate", *arguments], capture_output=True, text=True, check=False)
    if done.returncode not in statuses:
        raise RuntimeError(f"dynamo-migrate {shlex.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def launch_flags(deployment: Path) -> list[str]:
    """Return the flags of the first launch file that starts the server, but for places on that machine."""
    audit = json.loads(migrate("audit", str(deployment), "--format=json", statuses=(0, 1)))
    lines = (shlex.split(line) for launch in audit["launches"] for line in launch["commands"])
    server = next((words for words in lines if words and words[0].endswith("tritonserver")), [])
    return [word for word in server[1:] if word.startswith("--") and not word.startswith(_OURS) and "$" not in word]


def compare(
    recipe: Recipe, filled: Filled, before: Path, after: Path, flags: list[str], scratch: Path
) -> dict[str, dict[str, Any]]:
    """Serve the original by Triton and what became of it by Tritium; return verify's verdicts by model and protocol."""
    running: list[Server] = []
    try:
        completions = ""
        if filled.language:
            engine, completions = start_language_model(scratch, "vllm")
            running.append(engine)
        for_reference(recipe, before / recipe.repository, scratch / "original", completions)
        http, grpc, metrics = free_ports(3)
        line, environment = reference.command(FOLDER, scratch / "original", http, grpc, metrics)
        running.append(old := start("Triton", line, environment, http, grpc, scratch / "triton.log"))
        http, grpc, metrics = free_ports(3)
        ports = [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"]
        line = [str(_PROGRAM / "tritonserver"), f"--model-repository={after / recipe.repository}", *flags, *ports]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITIUM_")}
        environment |= _WITHOUT_GPU
        running.append(new := start("Tritium", line, environment, http, grpc, scratch / "tritium.log", wait_s=600))
        verdicts: dict[str, dict[str, Any]] = {}
        for protocol in ("http", "grpc"):
            urls = [f"{protocol}://127.0.0.1:{getattr(side, protocol)}" for side in (old, new)]
            report = migrate("verify", *urls, "--format=json", "--again=0", statuses=(0, 1))
            (scratch / f"verify-{protocol}.json").write_text(report)
            for model in json.loads(report)["models"]:
                verdicts.setdefault(model["model"], {})[protocol] = model
        return verdicts
    finally:
        for server in reversed(running):
            server.stop()


def _different(found: filecmp.dircmp[str]) -> list[str]:
    """Return what two folders do not have in common, to the byte."""
    _, unequal, unread = filecmp.cmpfiles(found.left, found.right, found.common_files, shallow=False)
    below = [name for one in found.subdirs.values() for name in _different(one)]
    return [*found.left_only, *found.right_only, *found.funny_files, *unequal, *unread, *below]


def show(moved: list[Moved]) -> None:
    """Print a line for each model, and what differs."""
    table = Table("deployment", "kind", "changes", "model", "files", "HTTP", "gRPC", "rollback", title="Moved")
    for one in moved:
        for number, (name, by) in enumerate(one.verdicts.items()):
            first = (one.recipe.deployment, one.recipe.kind, str(one.changes)) if number == 0 else ("", "", "")
            said = [f"{by[key]['is']} ({by[key]['answered']})" for key in ("http", "grpc")]
            back = ("to the byte" if one.restored else "DIFFERS") if number == 0 else ""
            table.add_row(*first, name, one.filled.origins[name], *said, back)
        table.add_section()
    console = Console(width=None if sys.stdout.isatty() else 170)
    console.print(table)
    for one in moved:
        for name, by in one.verdicts.items():
            for protocol, verdict in by.items():
                for text in [*verdict["differences"], *_call_differences(verdict)]:
                    console.print(f"{one.recipe.deployment} {name} ({protocol}): {text}", markup=False)
        if one.failure:
            console.print(f"{one.recipe.deployment}: {one.failure}", markup=False)
        if one.flags:
            console.print(f"{one.recipe.deployment}: started with {one.flags}", markup=False)
        if one.recipe.left_out:
            console.print(f"{one.recipe.deployment}: left out {one.recipe.left_out}", markup=False)
    proven = sum(one.proven for one in moved)
    models = sum(len(one.verdicts) for one in moved)
    console.print(f"{proven} of {len(moved)} deployments with {models} models proven the same and taken back")


def _call_differences(verdict: dict[str, Any]) -> list[str]:
    return [f"{call['about']}: {text}" for call in verdict["requests"] for text in call["differences"]]


if __name__ == "__main__":
    sys.exit(main())
