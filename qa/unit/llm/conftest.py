import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def scripted():
    """The module of scripted language models beside this file."""
    name = "scripted_language_models"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "scripted.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
