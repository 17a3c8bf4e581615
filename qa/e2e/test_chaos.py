"""The chaos suite in its short form: `python -m qa.chaos` and `python -m qa.chaos.cluster` are the long ones."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(600)


def test_harm_under_load():
    """Workers killed, one and all, under load: every answer is right or an error, none hangs, nothing is left."""
    line = [sys.executable, "-m", "qa.chaos", "--seconds=6", "--streams=4", "--fleet=disaggregated"]
    line += ["--harm=worker,all", "--pause", "0.3", "1.5"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is as it should be" in done.stdout


@pytest.mark.server("etcd")
@pytest.mark.server("nats-server")
def test_harm_to_a_cluster():
    """Fronts, workers, etcd and NATS killed under load: the same, and no lease is left.

    Takes some 20 s: it starts seven programs, and most of them twice.
    """
    line = [sys.executable, "-m", "qa.chaos.cluster", "--seconds=4", "--streams=4", "--pause", "0.3", "1.5"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is as it should be" in done.stdout
