"""docs/migration/rules, made from the docstrings of the rules: `python -m qa.docs.rules`."""

from pathlib import Path

from tritium.migration.rules.page import Page, page_of
from tritium.migration.rules.registry import OWN

FOLDER = Path(__file__).parents[2] / "docs" / "migration" / "rules"
FAMILIES = {"L": "Starting the server", "M": "Models", "O": "Dashboards, alerts and autoscalers", "C": "Clients"}
HEAD = """# Rules

What `dynamo-migrate audit` looks for. Every example is run by a test. Made by `python -m qa.docs.rules` from the rules
themselves (`migration/tritium/migration/rules`); `dynamo-migrate explain RULE` prints a page.
"""


def pages() -> dict[str, str]:
    """Return the text of every page by its file's name."""
    found = sorted((page_of(rule) for rule in OWN), key=lambda page: page.rule.id)
    return {"README.md": _index(found)} | {f"{page.rule.id}.md": page.markdown() for page in found}


def _index(found: list[Page]) -> str:
    lines = [HEAD]
    for letter, title in FAMILIES.items():
        lines += [f"## {title}", "", "| rule | asks | what it is about |", "|---|---|---|"]
        lines += [
            f"| [{page.rule.id}]({page.rule.id}.md) | {page.rule.severity.value} | {page.summary.removesuffix('.')} |"
            for page in found
            if page.rule.id[0] == letter
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
