"""The audit over real deployments, which the environment variable TRITIUM_CORPUS names; skipped without it."""

import os
from pathlib import Path

import pytest
from qa.bench.migration.__main__ import audited, folders, measure
from rich.console import Console

from tritium.migration.audit import audit
from tritium.migration.finding import Severity, Verdict
from tritium.migration.reports.json import as_json
from tritium.migration.reports.text import as_text


def deployments() -> list[Path]:
    """Return the folders of the corpus's `deployments`, each one deployment."""
    corpus = os.environ.get("TRITIUM_CORPUS")
    if not corpus or not Path(corpus, "deployments").is_dir():
        pytest.skip("TRITIUM_CORPUS names no folder with a `deployments` folder of Triton deployments")
    return sorted(folder for folder in Path(corpus, "deployments").iterdir() if folder.is_dir())


def test_every_deployment_is_audited() -> None:
    """Each deployment is read without an exception; every verdict but the best has a reason or an advice."""
    found = {folder.name: audit(folder) for folder in deployments()}
    assert found
    for name, report in found.items():
        assert as_text([report]).endswith("\n"), name
        assert as_json([report]).startswith("{"), name
        for model in report.models:
            if model.verdict is Verdict.BROKEN:
                assert any(f.severity is Severity.BLOCKER for f in model.findings), (name, model.path)
            elif model.verdict is Verdict.CHANGE:
                assert any(f.severity is not Severity.INFO for f in model.findings), (name, model.path)
            elif model.verdict is Verdict.SERVES:
                assert all(f.severity is Severity.INFO for f in model.findings), (name, model.path)
            elif model.verdict is Verdict.CONVERT:
                assert model.advice, (name, model.path)


def test_every_config_belongs_to_a_model() -> None:
    """No file called config.pbtxt is passed over."""
    for folder in deployments():
        report = audit(folder)
        listed = {model.path for model in report.models}
        assert {file.relative_to(folder) for file in folder.rglob("config.pbtxt")} <= listed, folder.name


def test_the_bars_are_held() -> None:
    """Images, commands, classes and negatives are found as `python -m qa.bench.migration` wants them."""
    deployments()
    places = folders(Path(os.environ["TRITIUM_CORPUS"]))
    audits, crashes = audited(places, Console(quiet=True))
    for bar in measure(audits, places, crashes):
        assert bar.share >= bar.least, (bar.title, bar.missed)
