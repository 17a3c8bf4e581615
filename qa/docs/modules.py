"""docs/modules.md, made from the first sentence of every module: `python -m qa.docs.modules > docs/modules.md`."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PORTIONS = ("server", "backends", "compat", "migration")
HEAD = """# Modules

Every module by its first sentence. Made by `python -m qa.docs.modules`; ARCHITECTURE.md has the rooms.
"""


def first_sentence(path: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")


def page() -> Iterator[str]:
    """Yield the page line by line."""
    yield HEAD
    folder = None
    for portion in PORTIONS:
        for path in sorted((ROOT / portion).rglob("*.py"), key=lambda path: (path.parent, path.stem)):
            if path.parent != folder:
                folder = path.parent
                package = folder / "__init__.py"
                about = f": {first_sentence(package)}" if package.exists() else ""
                yield f"\n**{folder.relative_to(ROOT)}**{about}\n"
            if path.stem != "__init__":
                yield f"- `{path.stem}`: {first_sentence(path)}"


if __name__ == "__main__":
    print("\n".join(page()))
