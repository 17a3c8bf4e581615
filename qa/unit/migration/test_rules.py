"""Every rule against the example in its own docstring, which is also its page's."""

from pathlib import Path

import pytest
from qa.docs import rules

from tritium.migration.audit import audit, check
from tritium.migration.finding import Severity
from tritium.migration.rules.page import Page, page_of
from tritium.migration.rules.registry import OWN
from tritium.migration.survey import survey
from tritium.migration.text.edit import rewrite

PAGES = {rule.id: page_of(rule) for rule in OWN}


def written(page: Page, root: Path) -> Path:
    """Write the files that a rule's example begins with."""
    for name, text in page.before.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("name", PAGES)
def test_a_rule_finds_its_own_example(name: str, tmp_path: Path) -> None:
    """The example is found by the rule it belongs to, in the words that the page quotes."""
    page = PAGES[name]
    assert page.summary.endswith(".")
    assert page.before, "a rule shows what it is about"
    found = [f for f in audit(written(page, tmp_path)).findings if f.rule == name]
    assert found
    for words in page.finds:
        assert any(words in finding.message for finding in found), found


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if page.after])
def test_a_rule_makes_of_its_example_what_its_page_shows(name: str, tmp_path: Path) -> None:
    """The fixes, and nothing else, make After of Before; twice changes nothing."""
    page = PAGES[name]
    for _ in range(2):
        deployment = survey(written(page, tmp_path))
        found = check(deployment, [page.rule()])
        edits = [edit for finding in found if finding.fix for edit in finding.fix.edits]
        after = {
            path: rewrite(text, [edit for edit in edits if str(edit.path) == path])
            for path, text in page.before.items()
        }
        assert after == page.before | page.after
        page = Page(page.rule, page.summary, page.text, after, {}, ())


@pytest.mark.parametrize("comment", ["ignore[L01]", "ignore", "ignore[L09, L01]"])
@pytest.mark.parametrize("above", [True, False])
def test_a_comment_silences_a_rule(comment: str, above: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """On the line of the finding, or alone on the line above; other rules still speak."""
    comment = f"# dynamo-migrate: {comment}"
    image = "image: nvcr.io/nvidia/tritonserver:23.03-py3"
    line = f"    {comment}\n    {image}\n" if above else f"    {image}  {comment}\n"
    text = f"services:\n  triton:\n{line}    command: tritonserver --no-such=/m\n"
    (tmp_path / "compose.yaml").write_text(text)
    assert {finding.rule for finding in audit(tmp_path).findings} == {"L02"}


def test_a_comment_for_another_rule_silences_nothing(tmp_path: Path) -> None:
    """Brackets name the rules that are silenced."""
    (tmp_path / "Dockerfile").write_text("# dynamo-migrate: ignore[L03]\nFROM nvcr.io/nvidia/tritonserver:23.03-py3\n")
    (finding,) = audit(tmp_path).findings
    assert (finding.rule, finding.severity) == ("L01", Severity.CHANGE)


def test_the_pages_are_current() -> None:
    """docs/migration/rules is what `python -m qa.docs.rules` writes."""
    assert {path.name: path.read_text() for path in rules.FOLDER.glob("*.md")} == rules.pages()
