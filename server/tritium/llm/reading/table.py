"""Every notation by the names that a configuration may use: vLLM's, and what models are called."""

from collections.abc import Mapping
from difflib import get_close_matches

from tritium.core.errors import InvalidArgument
from tritium.llm.reading.families import named_json, reasoning, tagged_arguments, tagged_json
from tritium.llm.reading.families.pythonic import PYTHONIC
from tritium.llm.reading.families.reasoning import Thoughts
from tritium.llm.reading.grammar import Calls

AUTO, NONE, HARMONY = "auto", "none", "gpt_oss"

TOOL_PARSERS: Mapping[str, Calls | None] = {
    "deepseek_v3": named_json.DEEPSEEK_V3,
    "glm45": tagged_arguments.GLM_45,
    HARMONY: None,
    "granite": tagged_json.GRANITE,
    "hermes": tagged_json.HERMES,
    "jamba": tagged_json.JAMBA,
    "kimi_k2": named_json.KIMI_K2,
    "llama3_json": tagged_json.LLAMA_3_JSON,
    "longcat": tagged_json.LONGCAT,
    "minimax_m2": tagged_arguments.MINIMAX_M2,
    "mistral": named_json.MISTRAL,
    "phi4_mini_json": tagged_json.PHI_4_MINI,
    "pythonic": PYTHONIC,
    "qwen3_coder": tagged_arguments.QWEN_3_CODER,
    "seed_oss": tagged_arguments.SEED_OSS,
}
"""Harmony has channels for everything, so it is a grammar of its own."""

REASONING_PARSERS: Mapping[str, Thoughts | None] = {
    "deepseek_r1": reasoning.DEEPSEEK_R1,
    HARMONY: None,
    "granite": reasoning.GRANITE,
    "mistral": reasoning.MISTRAL,
    "qwen3": reasoning.QWEN_3,
    "seed_oss": reasoning.SEED_OSS,
}

_OTHER_TOOL_NAMES = {
    "deepseek_r1": "deepseek_v3",
    "deepseek_v31": "deepseek_v3",
    "glm47": "glm45",
    "granite4": "hermes",
    "harmony": HARMONY,
    "hunyuan_a13b": "jamba",
    "llama4_json": "llama3_json",
    "llama4_pythonic": "pythonic",
    "magistral": "mistral",
    "openai": HARMONY,
    "openai_gptoss": HARMONY,
    "phi4": "phi4_mini_json",
    "qwen": "hermes",
    "qwen25": "hermes",
    "qwen3": "hermes",
    "qwen3_json": "hermes",
    "qwen3_xml": "qwen3_coder",
}
_OTHER_REASONING_NAMES = {
    "deepseek_v3": "qwen3",
    "deepseek_v31": "qwen3",
    "glm45": "qwen3",
    "glm47": "qwen3",
    "harmony": HARMONY,
    "holo2": "qwen3",
    "kimi_k2": "qwen3",
    "magistral": "mistral",
    "minimax_m2": "deepseek_r1",
    "openai": HARMONY,
    "openai_gptoss": HARMONY,
}


def tool_parser_name(name: str) -> str:
    """Return the one name of a tool parser that has several.

    Raises:
        InvalidArgument: there is none of that name.
    """
    return _one_name(name, "tool_parser", TOOL_PARSERS, _OTHER_TOOL_NAMES)


def reasoning_parser_name(name: str) -> str:
    """Return the one name of a reasoning parser that has several.

    Raises:
        InvalidArgument: there is none of that name.
    """
    return _one_name(name, "reasoning_parser", REASONING_PARSERS, _OTHER_REASONING_NAMES)


def _one_name(name: str, field: str, table: Mapping[str, object], others: Mapping[str, str]) -> str:
    plain = name.strip().lower().replace("-", "_")
    plain = others.get(plain, plain)
    if plain in table or plain in {AUTO, NONE}:
        return plain
    known = sorted({*table, *others, AUTO, NONE})
    near = get_close_matches(plain, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InvalidArgument(f"there is no {field} '{name}'", hint=f"{hint}known are {', '.join(known)}")
