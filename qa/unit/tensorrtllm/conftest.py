"""The tensorrtllm engine over a fake of TensorRT-LLM; see qa/fakes."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qa.unit.embedded.conftest import driving

from tritium.backends.engine import EngineSource, Role
from tritium.backends.tensorrtllm.engine import TensorRtLlmEngine


@pytest.fixture
def tensorrt_llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The fake, where `import tensorrt_llm` finds it."""
    monkeypatch.syspath_prepend("qa/fakes")
    yield importlib.import_module("tensorrt_llm")
    for name in [name for name in sys.modules if name == "tensorrt_llm" or name.startswith("tensorrt_llm.")]:
        del sys.modules[name]


@pytest.fixture
def serving(tensorrt_llm: Any, tmp_path: Path) -> Callable[..., Any]:
    """Run an engine: `async with serving(max_num_seqs=4) as driver`."""
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 1000, "max_position_embeddings": 4096}))

    def run(role: Role = Role.AGGREGATED, **arguments: Any) -> Any:
        return driving(TensorRtLlmEngine(EngineSource(tmp_path, arguments, role)))

    return run
