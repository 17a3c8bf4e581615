"""What would stop a language model from being loaded, found without loading it."""

import json

import pytest

from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.llm.checking import check_version
from tritium.llm.settings import LanguageSettings


@pytest.mark.parametrize(
    ("engine", "installed", "said"),
    [
        ("vllm", False, ["the engine vllm needs the package vllm, which is not installed"]),
        ("vllm", True, []),
        ("embedded", False, []),
    ],
)
def test_an_engine_that_is_not_installed_is_found(tmp_path, monkeypatch, engine, installed, said):
    """Who asks for vLLM where it is not is told how to get it, instead of which of its modules is missing."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    (tmp_path / "1" / "weights").mkdir(parents=True)
    (tmp_path / "1" / "weights" / "config.json").write_text("{}")
    (tmp_path / "1" / "model.json").write_text(json.dumps({"model": "weights"}))
    config = from_proto(model_config_pb2.ModelConfig(name="story", backend="vllm"))
    found = check_version(config, tmp_path, "1", LanguageSettings(engine))
    assert [problem.message for problem in found] == said
    assert all("ENGINE=vllm" in problem.hint for problem in found)
