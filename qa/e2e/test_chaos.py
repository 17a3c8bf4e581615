"""The chaos suite in its short form: `python -m qa.chaos` is the long one."""

import subprocess
import sys


def test_harm_under_load():
    """Workers killed, one and all, under load: every answer is right or an error, none hangs, nothing is left."""
    line = [sys.executable, "-m", "qa.chaos", "--seconds=6", "--streams=4", "--fleet=disaggregated"]
    line += ["--harm=worker,all", "--pause", "0.3", "1.5"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is as it should be" in done.stdout
