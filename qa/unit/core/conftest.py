"""What the tests of the core share."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load_fakes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("core_fakes", Path(__file__).parent / "fakes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["core_fakes"] = module
    spec.loader.exec_module(module)
    return module


_FAKES = _load_fakes()


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """The fakes of the core's tests (fakes.py)."""
    return _FAKES
