"""The sglang engine over a fake of SGLang; see qa/fakes."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qa.unit.embedded.conftest import driving

from tritium.backends.engine import EngineSource, Role
from tritium.backends.sglang.engine import SglangEngine


@pytest.fixture
def sglang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The fake, where `import sglang` finds it."""
    monkeypatch.syspath_prepend("qa/fakes")
    yield importlib.import_module("sglang")
    for name in [name for name in sys.modules if name == "sglang" or name.startswith("sglang.")]:
        del sys.modules[name]


@pytest.fixture
def serving(sglang: Any) -> Callable[..., Any]:
    """Run an engine: `async with serving(page_size=4) as driver`."""

    def run(role: Role = Role.AGGREGATED, **arguments: Any) -> Any:
        return driving(SglangEngine(EngineSource(Path("/models/m"), arguments, role)))

    return run
