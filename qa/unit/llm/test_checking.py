"""What would stop a language model from being loaded, found without loading it."""

import json
import re

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


@pytest.mark.parametrize(
    ("template", "own", "said"),
    [
        (None, "{{ messages }}", []),
        (None, "{% if %}", ["the chat template of .*weights: the chat template does not parse: line 1"]),
        ("absent.jinja", "", ["the chat template absent.jinja is no file, and no template of the model"]),
        ("mine.jinja", "", []),
        ("{% for %}", "", ["the chat template does not parse"]),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_found(tmp_path, monkeypatch, template, own, said):
    """The model's own and an operator's are compiled before anything is loaded."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    (tmp_path / "1" / "weights").mkdir(parents=True)
    (tmp_path / "1" / "weights" / "chat_template.jinja").write_text(own)
    (tmp_path / "1" / "mine.jinja").write_text("{{ messages }}")
    chosen = {} if template is None else {"chat_template": template}
    (tmp_path / "1" / "model.json").write_text(json.dumps({"model": "weights", **chosen}))
    config = from_proto(model_config_pb2.ModelConfig(name="story", backend="vllm"))
    found = check_version(config, tmp_path, "1", LanguageSettings("vllm"))
    assert len(found) == len(said)
    assert all(re.search(words, problem.message) for words, problem in zip(said, found, strict=True))
