"""Reports other than the text: each is what its readers expect, holds every finding, and no secret."""

import csv
import io
import json
import re
import sys
from html.parser import HTMLParser
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from tritium.migration.audit import audit
from tritium.migration.cli import main
from tritium.migration.finding import Severity
from tritium.migration.reports.fate import Fate, shares
from tritium.migration.reports.formats import FORMATS, written
from tritium.migration.rules import registry
from tritium.migration.rules.rule import Rule
from tritium.migration.text.edit import Edit, Overlap, rewrite
from tritium.migration.text.source import Span

COMPOSE = """services:
  triton:
    image: nvcr.io/nvidia/tritonserver:23.03-py3
    environment: { HF_TOKEN: hf_abcdefghijklmnopqrstuvwx }  # dynamo-migrate keeps this to itself
    command: tritonserver --model-store=s3://user:sesame123@bucket/m --no-such=hf_abcdefghijklmnopqrstuvwx
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """Write a deployment of a plan, a python model and a compose file with secrets in it."""
    for name, text in (("plan", 'platform: "tensorrt_plan"\n'), ("code", 'backend: "python"\n')):
        (tmp_path / "d/models" / name).mkdir(parents=True)
        (tmp_path / "d/models" / name / "config.pbtxt").write_text(text)
    (tmp_path / "d/compose.yaml").write_text(COMPOSE)
    return tmp_path / "d"


def run(*arguments: str | Path) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("form", FORMATS)
def test_no_report_shows_a_secret(deployment: Path, form: str) -> None:
    """Tokens and passwords in commands, images and quoted lines are covered in every format."""
    report = written([audit(deployment)], form)
    assert "abcdefghijklmnop" not in report
    assert "sesame123" not in report


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "text"])
def test_reports_hold_every_finding_that_asks(deployment: Path, form: str) -> None:
    """No format leaves out a rule that asks for something."""
    found = audit(deployment)
    asked = {finding.rule for finding in found.findings if finding.severity is not Severity.INFO}
    assert {"L01", "L02", "L03", "M12"} <= asked
    report = written([found], form)
    assert {name for name in asked if name not in report} == set()


def test_sarif_names_rules_places_and_fixes(deployment: Path) -> None:
    """Each result's rule is described; a fix replaces what stands at its offset in the file."""
    run_ = json.loads(written([audit(deployment)], "sarif"))["runs"][0]
    described = {rule["id"] for rule in run_["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in run_["results"]} == described
    (image,) = [result for result in run_["results"] if result["ruleId"] == "L01"]
    place = image["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "compose.yaml"
    assert place["region"] == {"startLine": 3, "startColumn": 12}
    (change,) = image["fixes"][0]["artifactChanges"]
    deleted = change["replacements"][0]["deletedRegion"]
    text = COMPOSE[deleted["charOffset"] : deleted["charOffset"] + deleted["charLength"]]
    assert text == "nvcr.io/nvidia/tritonserver:23.03-py3"


class _Needs(HTMLParser):
    """Collects what a page would load, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_one_file_that_needs_nothing(deployment: Path) -> None:
    """It loads nothing, its tags close, and what files say is escaped."""
    (deployment / "models/<b>bold").mkdir()
    (deployment / "models/<b>bold/config.pbtxt").write_text('backend: "python"\n')
    page = written([audit(deployment)], "html")
    needs = _Needs()
    needs.feed(page)
    assert (needs.loads, needs.open) == ([], [])
    assert "<b>bold" not in page


def test_csv_is_one_table(deployment: Path) -> None:
    """Every row has the columns of the head; a model without findings has a row too."""
    rows = list(csv.DictReader(io.StringIO(written([audit(deployment)], "csv"))))
    assert all(None not in row and None not in row.values() for row in rows)
    assert {row["name"] for row in rows} == {"plan", "code", ""}


def test_github_annotates_lines(deployment: Path) -> None:
    """A blocker is an error at its line; nothing that asks for nothing is said."""
    lines = written([audit(deployment)], "github").splitlines()
    assert any(
        re.match(r"::error file=.*/compose\.yaml,line=5,col=\d+,title=L02::unrecognized", line) for line in lines
    )
    assert not any("title=M22" in line for line in lines)


def test_shares_add_up(deployment: Path) -> None:
    """Percents are whole, and 100 together; each model and launch file has one fate."""
    found = shares([audit(deployment)])
    assert sum(share.percent for share in found) == 100
    assert {share.fate: share.count for share in found} == {Fate.AS_IS: 1, Fate.REBUILT: 1, Fate.BROKEN: 1}


def test_a_baseline_passes_what_it_knows(deployment: Path, tmp_path: Path) -> None:
    """The report itself as baseline leaves nothing to do, also where lines moved; one finding more fails again."""
    baseline = tmp_path / "known.json"
    assert run("audit", deployment, "--format", "json", "-o", baseline).exit_code == 1
    (deployment / "compose.yaml").write_text(f"# a line more\n{COMPOSE}")
    passed = run("audit", deployment, "--baseline", baseline)
    assert (passed.exit_code, f"nothing new since {baseline}" in passed.output) == (0, True)
    (deployment / "Dockerfile").write_text("FROM nvcr.io/nvidia/tritonserver:24.01-py3\n")
    failed = run("audit", deployment, "--baseline", baseline)
    assert (failed.exit_code, failed.output.count(f"new since {baseline}: ")) == (1, 1)


def test_what_is_no_baseline_is_refused(deployment: Path) -> None:
    """A file of another kind ends with 2 and its name."""
    done = run("audit", deployment, "--baseline", deployment / "compose.yaml")
    assert done.exit_code == 2
    assert "compose.yaml is no report" in done.output


def test_several_folders_are_one_report(deployment: Path, tmp_path: Path) -> None:
    """The first screen counts them together; JSON is a list."""
    (tmp_path / "empty").mkdir()
    done = run("audit", "--summary", deployment, tmp_path / "empty")
    assert "2 folders, 1 of them deployments: 2 models, 1 file that starts Triton" in done.output
    reports = json.loads(run("audit", "--format", "json", deployment, tmp_path / "empty").output)
    assert [report["deployment"] for report in reports] == [True, False]


def test_rules_are_explained() -> None:
    """`explain` prints a rule's page in any case of its id, lists all without one, and refuses what is none."""
    assert run("explain", "l03").output.startswith("# L03: ")
    listed = run("explain").output.splitlines()
    assert [line.split()[0] for line in listed] == [rule.id for rule in registry.rules()]
    assert run("explain", "X99").exit_code == 2


class House(Rule):
    """Every deployment is ours."""

    id = "X01"
    severity = Severity.TODO

    def find(self, deployment):
        return [self.of(model, f"{model.name} is ours") for model in deployment.models]


def test_other_packages_add_rules(deployment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point's rule speaks like our own; one that cannot be loaded ends with 2 and its name."""
    sys.modules["a_house"] = module = ModuleType("a_house")
    module.House = House
    points = [EntryPoint("house", "a_house:House", registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])
    registry.rules.cache_clear()
    try:
        assert "X01" in {finding.rule for finding in audit(deployment).findings}
        assert "Every deployment is ours" in run("explain", "X01").output
        points.append(EntryPoint("gone", "a_house:Gone", registry.GROUP))
        registry.rules.cache_clear()
        done = run("audit", deployment)
        assert (done.exit_code, "the rule gone (a_house:Gone) cannot be loaded" in done.output) == (2, True)
    finally:
        del sys.modules["a_house"]
        monkeypatch.undo()
        registry.rules.cache_clear()


def test_edits_touch_nothing_else() -> None:
    """Edits are made from their spans; one given twice counts once, two that meet are refused."""
    path = Path("a")
    one, other = Edit(path, Span(2, 4), "XX"), Edit(path, Span(5, 5), "+")
    assert rewrite("01234567", [other, one, one]) == "01XX4+567"
    with pytest.raises(Overlap):
        rewrite("01234567", [one, Edit(path, Span(3, 6), "")])
