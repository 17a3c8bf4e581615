"""What all tests share: those that need a server's program are skipped, by name, where it is not installed."""

import shutil

import hypothesis
import pytest

# How long one example takes says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("tritium", deadline=None)
hypothesis.settings.load_profile("tritium")


def pytest_runtest_setup(item):
    """Skip a test whose marker `server(name)` names a program that is not here."""
    for marker in item.iter_markers("server"):
        [name] = marker.args
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}, which is not installed (apt-get install {name}*)")
