"""docs/migration/walk.md does what it says: its commands are run as they are written, in their order."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
WALK = ROOT / "docs/migration/walk.md"


def steps() -> list[tuple[str, list[str]]]:
    """Return the commands of the page, each with the lines that are shown under it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", WALK.read_text(), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def test_every_command_of_the_walk(tmp_path: Path) -> None:
    """Each one's output has the lines that are shown, in their order; between `...` they follow one another."""
    (tmp_path / "qa").symlink_to(ROOT / "qa")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert len(steps()) >= 15
    for command, shown in steps():
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == (1 if " audit " in command else 0), (command, done.stdout)
        parts = re.split(r"^\.\.\.\n", "".join(f"{line}\n" for line in shown), flags=re.MULTILINE)
        pattern = ".*".join(re.escape(part).replace(r"\.\.\.", "[^\n]*") for part in parts)
        assert re.search(pattern, done.stdout, re.DOTALL), (command, done.stdout)


def test_the_sample_is_as_it_was() -> None:
    """The walk works on a copy."""
    changed = list((ROOT / "qa/migration/sample").rglob(".dynamo-migrate"))
    assert changed == []
