"""Broken repositories and what `tritium check` says of them; each script is prose, files, and the output expected.

    # What this shows.
    == model/config.pbtxt
    backend: "identity"
    == model/1/
    $ tritium check .
    No problems in 1 model.

TRITIUM_REWRITE=1 writes what is printed now into the scripts, to be read before it is committed.
"""

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tritium.cli.check import check

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


def scenes(script):
    """Split a script into scenes: prose, files, the command and the expected output."""
    for scene in script.read_text().split("\n\n# "):
        setup, _, rest = scene.partition("\n$ ")
        command, _, expected = rest.partition("\n")
        yield setup, command, expected.rstrip("\n")


def lay(setup, folder):
    """Write the files of a scene."""
    for part in ("\n" + setup).split("\n== ")[1:]:
        name, _, text = part.partition("\n")
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")


def run(command, folder):
    """Run `tritium check ...` in the folder of a scene."""
    home = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(check, command.split()[2:])
    finally:
        os.chdir(home)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    broken = "error" in result.output if "json" in command else "No problems" not in result.output
    assert result.exit_code == (2 if broken else 0)
    return re.sub(r"installed: [\w, ]+", "installed: (backends)", result.output.rstrip("\n"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script(script, tmp_path, monkeypatch):
    """Every scene prints exactly what its script says, on a machine without a GPU."""
    monkeypatch.setattr("tritium.repository.audit.installed_gpus", lambda: ())
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    written = []
    for number, (setup, command, expected) in enumerate(scenes(script)):
        folder = tmp_path / str(number)
        folder.mkdir()
        lay(setup, folder)
        printed = run(command, folder)
        written.append(f"{setup}\n$ {command}\n{printed}\n")
        if "TRITIUM_REWRITE" not in os.environ:
            assert printed == expected, setup.split("\n")[0]
    if "TRITIUM_REWRITE" in os.environ:
        script.write_text("\n# ".join(written))
