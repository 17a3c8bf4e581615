"""Which parsers a model has, by its configuration or by its template, and what a request makes of them."""

from pathlib import Path

import pytest

from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import InvalidArgument
from tritium.llm.reading.choose import Formats, formats_of, reader_for
from tritium.llm.reading.configured import named_parsers, take_formats
from tritium.llm.reading.reading import Asked, Tool

TEMPLATES = Path(__file__).parents[1] / "templates"
TOOL = Tool("f")


class NoSpecials:
    def special_ids(self, texts):
        return {}


@pytest.mark.parametrize(
    ("template", "tool", "reasoning"),
    [
        ("chatml", "none", "none"),
        ("deepseek_v3", "deepseek_v3", "qwen3"),
        ("gemma3", "none", "none"),
        ("glm45", "glm45", "qwen3"),
        ("gpt_oss", "gpt_oss", "gpt_oss"),
        ("granite3", "granite", "none"),
        ("kimi_k2", "kimi_k2", "none"),
        ("llama2", "none", "none"),
        ("llama31", "llama3_json", "none"),
        ("mistral_v1", "none", "none"),
        ("mistral_v3_tekken", "mistral", "none"),
        ("phi4", "phi4_mini_json", "none"),
        ("qwen25", "hermes", "none"),
        ("qwen3", "hermes", "qwen3"),
    ],
)
def test_detected_in_templates(template, tool, reasoning):
    """The chat templates of public models show what their models write."""
    source = (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")
    assert formats_of("", "auto", source) == Formats(tool, reasoning)


@pytest.mark.parametrize(
    ("source", "tool"),
    [
        ("<tool_call>\n<function=f>\n<parameter=a>", "qwen3_coder"),
        ("<seed:tool_call><function=f><parameter=a>", "seed_oss"),
        ("<minimax:tool_call><invoke name=", "minimax_m2"),
        ("You SHOULD put it in the format [func_name1(params_name1=params_value1)]", "pythonic"),
        ("<|start_of_role|>...return a json object within <tool_call></tool_call>", "hermes"),
    ],
)
def test_detected_by_what_models_are_told(source, tool):
    """Families that share a tag are told apart by the rest of what their templates say."""
    assert formats_of("", "", source).tool == tool


def test_names():
    """A parser may be called as vLLM calls it, in either spelling; `none` is none, whatever the template shows."""
    assert formats_of("qwen3-xml", "openai_gptoss", "") == Formats("qwen3_coder", "gpt_oss")
    assert formats_of("none", "none", "<tool_call></think>") == Formats("none", "none")


@pytest.mark.parametrize(
    ("tool", "reasoning", "field", "near"),
    [("hermse", "", "tool_parser", "hermes"), ("", "deepsek_r1", "reasoning_parser", "deepseek_r1")],
)
def test_unknown_name(tool, reasoning, field, near):
    """An unknown name is refused with the nearest one and the list."""
    with pytest.raises(InvalidArgument) as refused:
        formats_of(tool, reasoning, "")
    assert field in refused.value.message
    assert f"did you mean {near}?" in refused.value.hint
    assert "mistral" in refused.value.hint


def config(**parameters):
    proto = model_config_pb2.ModelConfig(name="m", backend="vllm")
    for key, value in parameters.items():
        proto.parameters[key].string_value = value
    return from_proto(proto)


def test_settings_win_over_configuration_and_that_over_the_file():
    """The server's setting, else config.pbtxt, else model.json, by vLLM's server's name for it too."""
    file = {"tool_call_parser": "mistral"}
    assert named_parsers(config(), file, {})["tool_parser"] == "mistral"
    assert named_parsers(config(tool_parser="granite"), file, {})["tool_parser"] == "granite"
    assert named_parsers(config(tool_parser="granite"), file, {"tool_parser": "hermes"})["tool_parser"] == "hermes"


@pytest.mark.parametrize(
    ("engine", "name", "left"),
    [
        ("vllm", "qwen3", {"reasoning_parser": "qwen3"}),
        ("vllm", "gpt_oss", {"reasoning_parser": "openai_gptoss"}),
        ("vllm", "auto", {}),
        ("embedded", "qwen3", {}),
    ],
)
def test_engine_is_told_of_reasoning_it_can_wait_for(engine, name, left):
    """Of the parsers vLLM is told the reasoning's, if one is named, by its own name for it; nobody is told more."""
    arguments = {"tool_parser": "hermes", "reasoning_parser": name}
    formats = take_formats(named_parsers(config(), arguments, {}), arguments, "", engine)
    assert arguments == left
    assert formats.thinks_first == bool(left)


def test_nothing_to_read_costs_nothing():
    """Where all will be content there is no reader."""
    plain, thinking = Formats("hermes"), Formats("hermes", "qwen3")
    assert reader_for(plain, Asked(), "", NoSpecials()) is None
    assert reader_for(plain, Asked(tools=(TOOL,)), "", NoSpecials()) is not None
    assert reader_for(thinking, Asked(), "", NoSpecials()) is not None
    assert reader_for(thinking, Asked(), "<think>\n\n</think>\n\n", NoSpecials()) is None
    assert reader_for(thinking, Asked(constrained=True), "<think>\n", NoSpecials()) is None


def test_settled_once_only_content_can_come():
    """A reader of reasoning alone is passed by from the first word of the answer on; one of calls never is."""
    reader = reader_for(Formats("hermes", "qwen3"), Asked(), "<think>\n", NoSpecials()).begin()
    settled = [(reader.push(part), reader.settled)[1] for part in ("hm", "</think>", "\n\n", "Yes", " and")]
    assert settled == [False, False, False, True, True]
    reader = reader_for(Formats("hermes"), Asked(tools=(TOOL,)), "", NoSpecials()).begin()
    reader.push("Yes")
    assert not reader.settled
