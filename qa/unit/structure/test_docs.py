"""The documentation is true: generated pages are current, every metric, route and error has its entry."""

import re
from pathlib import Path

from qa.docs import modules, settings

from tritium.cluster.samples import FLEET_HELP

ROOT = Path(__file__).parents[3]
DOCS = "\n".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))


def test_the_modules_page_is_current() -> None:
    """docs/modules.md is what `python -m qa.docs.modules` writes, so every module has a sentence."""
    assert (ROOT / "docs" / "modules.md").read_text() == "\n".join(modules.page()) + "\n"


def test_the_settings_page_is_current() -> None:
    """docs/settings.md is what `python -m qa.docs.settings` writes."""
    assert (ROOT / "docs" / "settings.md").read_text() == "\n".join(settings.page()) + "\n"


def test_every_metric_has_an_entry() -> None:
    """A metric that is exported is named in docs/."""
    sources = "\n".join(path.read_text() for path in (ROOT / "server").rglob("*.py"))
    exported = set(re.findall(r'"((?:nv|tritium)_[a-z0-9_]+)"', sources)) | set(FLEET_HELP)
    assert {name for name in exported if name not in DOCS} == set()


def test_links_lead_somewhere() -> None:
    """A relative link in a page of documentation names a file of the repository."""
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_found_from_the_first() -> None:
    """docs/README.md links to each page of documentation, decisions included; rules have a first page."""
    docs = ROOT / "docs"
    first, rules = (docs / "README.md").read_text(), (docs / "migration/rules/README.md").read_text()
    pages = [page for page in docs.rglob("*.md") if page.parent.name != "rules" or page.name == "README.md"]
    assert {str(p.relative_to(docs)) for p in pages if f"({p.relative_to(docs)})" not in first} == {"README.md"}
    assert {p.name for p in docs.glob("migration/rules/*.md") if f"({p.name})" not in rules} == {"README.md"}


def test_the_readme_is_short() -> None:
    """README.md is an entrance of at most 150 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
