"""The chaos suite in its short form: `python -m qa.chaos` is the long one."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("fleet", ["aggregated", "disaggregated"])
def test_harm_under_load(fleet):
    """Workers killed and stopped under load: every answer is right or an error, none hangs, nothing is left behind."""
    line = [sys.executable, "-m", "qa.chaos", "--seconds=8", "--streams=4", f"--fleet={fleet}"]
    line += ["--harm=worker,stopped,all", "--pause", "0.3", "1.5"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is as it should be" in done.stdout
