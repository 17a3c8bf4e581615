"""Scratch folders: gone with their process, however it ends."""

import os
import signal
import subprocess
import sys

import pytest

from tritium.cli.scratch import Scratch

OWNER = """
import sys, time
from tritium.cli.scratch import Scratch
print(Scratch("try").open(), flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def aged(folder):
    """Make a folder look as if it had been made an hour ago."""
    past = folder.stat().st_mtime - 3600
    os.utime(folder, (past, past))


def test_it_goes_with_its_owner(tmp_path):
    """Closing removes it, and may be done twice."""
    scratch = Scratch("try")
    folder = scratch.open()
    (folder / "x").write_text("x")
    scratch.close()
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    """The next one of the kind removes it, once it is certain that nobody holds it; what is held stays."""
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        left = tmp_path / owner.stdout.readline().strip().rpartition("/")[2]
        aged(left)
        scratch = Scratch("try")
        scratch.open()
        assert left.exists()
        scratch.close()
        owner.send_signal(signal.SIGKILL)
    (tmp_path / "tritium-other-1").mkdir()
    aged(left)
    scratch = Scratch("try")
    scratch.open()
    assert not left.exists()
    assert (tmp_path / "tritium-other-1").exists()
    scratch.close()
