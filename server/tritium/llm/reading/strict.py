"""What holds the calls of strict tools to their schemas while the model writes as it likes: a structural tag.

text, free --> <tool_call> --> {"name": "f", "arguments": --> JSON by the schema of f --> }</tool_call> --> text, free

The engine's grammar begins where a call does, so that a model that decides itself (tool_choice auto) can be held to it
too. It is written for families whose calls are one JSON object of arguments within fixed text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tritium.llm.reading.reading import Tool

_NAME = "NAME"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a family writes around the arguments of a call: how calls begin, and the ways to write one."""

    trigger: str
    ways: tuple[tuple[str, str], ...]
    """Text before and after the arguments, with NAME for the name of the tool."""


def _tagged(opener: str, closer: str) -> Envelope:
    """Return an object with name and arguments between markers, on one line or, as Qwen writes it, on three."""
    before = '{"name": "NAME", "arguments": '
    return Envelope(opener, ((f"{opener}\n{before}", f"}}\n{closer}"), (f"{opener}{before}", f"}}{closer}")))


ENVELOPES: Mapping[str, Envelope] = {
    "deepseek_v3": Envelope(
        "<｜tool▁call▁begin｜>",
        (
            ("<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
            ("<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n", "\n```<｜tool▁call▁end｜>"),
        ),
    ),
    "hermes": _tagged("<tool_call>", "</tool_call>"),
    "longcat": _tagged("<longcat_tool_call>", "</longcat_tool_call>"),
}
"""By the names of tool parsers."""


def structural_tag(family: str, tools: Sequence[Tool]) -> str | None:
    """Return the tag that holds calls of these tools to their form; None where no tool is strict, or no tag is known.

    Within a call only what the tag says can be written: tools that are not strict are in it with any arguments.
    """
    envelope = ENVELOPES.get(family)
    if envelope is None or not any(tool.strict for tool in tools):
        return None
    tags: list[dict[str, Any]] = [
        {
            "type": "tag",
            "begin": before.replace(_NAME, tool.name),
            "content": {"type": "json_schema", "json_schema": _schema(tool)},
            "end": after,
        }
        for tool in tools
        for before, after in envelope.ways
    ]
    form = {"type": "triggered_tags", "triggers": [envelope.trigger], "tags": tags}
    return msgspec.json.encode({"type": "structural_tag", "format": form}).decode()


def _schema(tool: Tool) -> dict[str, Any]:
    return {"type": "object", "properties": {}, **tool.parameters} if tool.strict else {"type": "object"}
