"""`python -m qa.bench.migration`: how well `dynamo-migrate audit` reads real deployments, against checked expectations.

TRITIUM_CORPUS names a folder with `deployments` (a folder each) and `configs` (configurations by themselves). What is
expected of them stands beside this file, checked by a person: which class each model is of, which images and command
lines start it, and what is no deployment at all. The launches of 22 deployments (by_hand.tsv) were written down from
their files before the audit was asked, and are compared both ways. Files that the corpus does not hold are left out.
Exits with 1 where a bar is missed.
"""

import csv
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tritium.migration.audit import audit
from tritium.migration.finding import Audit
from tritium.migration.survey import survey

HERE = Path(__file__).parent
LAUNCHES = 0.97
CLASSES = 0.98
SECONDS = 20.0
_SHOWN = 12


@dataclass(slots=True)
class Bar:
    """One bar: what was found of what was expected, and what was not."""

    title: str
    least: float
    found: int = 0
    missed: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Return how much was expected."""
        return self.found + len(self.missed)

    @property
    def share(self) -> float:
        """Return the part that was found; all of nothing is all."""
        return self.found / self.total if self.total else 1.0

    def count(self, what: str, *, right: bool) -> None:
        """Count one expectation."""
        if right:
            self.found += 1
        else:
            self.missed.append(what)


def expected(name: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a table of expectations."""
    with (HERE / name).open(newline="") as file:
        yield from csv.DictReader(file, delimiter="\t")


def folders(corpus: Path) -> dict[str, Path]:
    """Return what is audited, by name: each deployment, and the configurations that lie by themselves."""
    found = {path.name: path for path in sorted((corpus / "deployments").iterdir()) if path.is_dir()}
    return found | ({"configs": corpus / "configs"} if (corpus / "configs").is_dir() else {})


def audited(places: dict[str, Path], console: Console) -> tuple[dict[str, Audit], Bar]:
    """Audit every folder, and count those in which something was raised."""
    crashes = Bar("audited without a crash", 1.0)
    audits: dict[str, Audit] = {}
    for name, folder in track(places.items(), "auditing", console=console):
        try:
            audits[name] = audit(folder)
        except Exception as error:
            crashes.count(f"{name}: {error!r}", right=False)
        else:
            crashes.count(name, right=True)
    return audits, crashes


def measure(audits: dict[str, Audit], places: dict[str, Path], crashes: Bar) -> list[Bar]:
    """Hold audits against what is expected."""
    negatives = Bar("no finding on what is no deployment", 1.0)
    for row in expected("negatives.tsv"):
        if row["deployment"] in audits:
            one = audits[row["deployment"]]
            negatives.count(row["deployment"], right=not one.findings and not one.is_deployment)
    return [_launches(audits, places), _by_hand(places), _classes(audits, places), negatives, crashes]


def _launches(audits: dict[str, Audit], places: dict[str, Path]) -> Bar:
    bar = Bar("launch images and commands found", LAUNCHES)
    for row in expected("launches.tsv"):
        name, path, what, value = row["deployment"], row["path"], row["what"], row["value"]
        if name in audits and (places[name] / path).is_file():
            found = next((x for x in audits[name].launches if str(x.path) == path), None)
            values = () if found is None else found.images if what == "image" else found.commands
            bar.count(f"{name}/{path}: {what} {value}", right=value in values)
    return bar


def _by_hand(places: dict[str, Path]) -> Bar:
    """Hold what starts the server against what was written down without the audit; what it says beside counts too."""
    bar = Bar("launches as written down by hand", LAUNCHES)
    told: dict[str, set[tuple[str, str, str]]] = {}
    for row in expected("by_hand.tsv"):
        if row["deployment"] in places and (places[row["deployment"]] / row["path"]).is_file():
            told.setdefault(row["deployment"], set()).add((row["path"], row["what"], row["value"]))
    for name, facts in told.items():
        found = set(_launched(places[name]))
        for fact in sorted(facts | found):
            which = "" if fact in found else "not found: " if fact in facts else "not there: "
            bar.count(f"{name}/{fact[0]}: {which}{fact[1]} {fact[2]}", right=fact in facts & found)
    return bar


def _launched(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the images and the repositories served that the survey finds, by file."""
    for launch in survey(folder).launches:
        path = str(launch.source.path)
        for image in launch.images:
            yield path, "image", image.text + (f":{image.tag}" if image.tag else "")
        for command in launch.commands:
            yield path, "serves", command.value("model-repository", "model-store", "model-repo")


def _classes(audits: dict[str, Audit], places: dict[str, Path]) -> Bar:
    bar = Bar("models classified", CLASSES)
    for row in expected("models.tsv"):
        name, path, kind = row["deployment"], row["path"], row["class"]
        if name in audits and (places[name] / path).is_file():
            found = next((model.kind for model in audits[name].models if str(model.path) == path), "none")
            bar.count(f"{name}/{path}: {kind}, not {found}", right=found == kind)
    return bar


def main() -> int:
    """Print the bars; return the exit status."""
    console = Console()
    corpus = os.environ.get("TRITIUM_CORPUS", "")
    if not Path(corpus, "deployments").is_dir():
        console.print("TRITIUM_CORPUS names no folder with a `deployments` folder")
        return 2
    begun = time.perf_counter()
    audits, crashes = audited(folders(Path(corpus)), console)
    seconds = time.perf_counter() - begun
    bars = measure(audits, folders(Path(corpus)), crashes)
    table = Table("", "found", "of", "share", "bar")
    for bar in bars:
        colour = "green" if bar.share >= bar.least else "red"
        share = f"[{colour}]{bar.share:.1%}[/]"
        table.add_row(bar.title, str(bar.found), str(bar.total), share, f"{bar.least:.0%}")
    table.add_row("seconds", f"{seconds:.1f}", "", "", f"{SECONDS:.0f}")
    console.print(table)
    for bar in bars:
        for missed in bar.missed[:_SHOWN]:
            console.print(f"missed: {missed}", markup=False)
    return int(any(bar.share < bar.least for bar in bars) or seconds > SECONDS)


if __name__ == "__main__":
    sys.exit(main())
