"""A mocker that is driven by awaiting whole generations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qa.unit.embedded.conftest import driving

from tritium.backends.engine import EngineSource, Role
from tritium.backends.mocker.engine import MockerEngine


@pytest.fixture
def mocking() -> Callable[..., Any]:
    """Run a mocker: `async with mocking(block_size=8, mocker={...}) as driver`."""

    def run(role: Role = Role.AGGREGATED, *, folder: Path = Path("nowhere"), worker: str = "w", **given: Any) -> Any:
        return driving(MockerEngine(EngineSource(folder, given, role, worker)))

    return run
