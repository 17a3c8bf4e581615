"""Where a model's notations are named: the server's settings, else config.pbtxt, else model.json, else its template.

config.pbtxt   parameters { key: "tool_parser" value { string_value: "hermes" } }
model.json     "tool_parser": "hermes", "reasoning_parser": "qwen3"
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

from tritium.compat.config.model import ModelConfig
from tritium.llm.reading.choose import Formats, formats_of
from tritium.llm.reading.table import AUTO, NONE

TOOL_PARSER, REASONING_PARSER = "tool_parser", "reasoning_parser"
_VLLM_SERVERS_NAME = "tool_call_parser"

# What vLLM calls a reasoning parser of ours that it has under another name.
_VLLM_NAMES = {
    "gpt_oss": "openai_gptoss",
    "harmony": "openai_gptoss",
    "openai": "openai_gptoss",
    "magistral": "mistral",
    "deepseek_v31": "deepseek_v3",
}


def named_parsers(config: ModelConfig, arguments: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, str]:
    """Return the parsers by name, "" where none is named; `settings` are the server's for this model."""
    in_file = {
        TOOL_PARSER: arguments.get(TOOL_PARSER) or arguments.get(_VLLM_SERVERS_NAME),
        REASONING_PARSER: arguments.get(REASONING_PARSER),
    }
    return {field: settings.get(field) or config.parameter(field) or str(name or "") for field, name in in_file.items()}


def take_formats(named: Mapping[str, str], arguments: MutableMapping[str, Any], template: str, engine: str) -> Formats:
    """Return a model's notations, and leave in its engine's arguments what the engine is to know of them.

    vLLM lets a model think before it holds it to a schema when it is told how thinking ends.

    Raises:
        InvalidArgument: there is no parser of that name.
    """
    formats = formats_of(named[TOOL_PARSER], named[REASONING_PARSER], template)
    for field in (TOOL_PARSER, _VLLM_SERVERS_NAME, REASONING_PARSER):
        arguments.pop(field, None)
    name = named[REASONING_PARSER]
    if engine == "vllm" and name not in ("", AUTO, NONE):
        arguments[REASONING_PARSER] = _VLLM_NAMES.get(name, name)
        formats = Formats(formats.tool, formats.reasoning, thinks_first=True)
    return formats
