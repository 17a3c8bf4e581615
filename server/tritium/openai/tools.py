"""The tools of a chat: checked, chosen among, and where a call is required, the schema that makes the engine write one.

tools, tool_choice, parallel_tool_calls  (functions, function_call before 2023-12)  --> ToolPlan
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritium.llm.errors import FieldRefused
from tritium.llm.reading.reading import Tool
from tritium.openai.schema import ChatRequest

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_CHOICES = ("none", "auto", "required")
ANY_TOOL = "*"
_MOST_TOOLS = 4_096


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """What of the tools matters to an answer."""

    shown: Sequence[Mapping[str, Any]] | None = None
    """What the chat template is given."""
    tools: tuple[Tool, ...] = ()
    """Those that may be called."""
    forced: str = ""
    """The one that must be called, "*" for any, "" where the model decides."""
    parallel: bool = True
    legacy: bool = False
    """Whether the client speaks of functions, as OpenAI did before there were tools."""

    @property
    def field(self) -> str:
        """Return the field that the tools came in."""
        return "functions" if self.legacy else "tools"

    @property
    def schema(self) -> dict[str, Any] | None:
        """Return the JSON schema of what the model must write; None where it decides itself."""
        if not self.forced:
            return None
        if self.forced != ANY_TOOL:
            return _object_schema(next(tool for tool in self.tools if tool.name == self.forced))
        definitions: dict[str, Any] = {}
        schema: dict[str, Any] = {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "anyOf": [_call_schema(tool, definitions) for tool in self.tools]},
        }
        if not self.parallel:
            schema["maxItems"] = 1
        if definitions:
            schema["$defs"] = definitions
        return schema


def tool_plan(call: ChatRequest) -> ToolPlan:
    """Check the tools of a chat and return what follows from them.

    Raises:
        FieldRefused: a tool or the choice is not as OpenAI's API has it; the field is named.
    """
    legacy = call.functions is not None or call.function_call is not None
    if legacy and (call.tools is not None or call.tool_choice is not None):
        raise FieldRefused(
            "functions", "functions and function_call are the older words for tools: send one or the other"
        )
    given = [{"type": "function", "function": f} for f in call.functions or ()] if legacy else call.tools
    choice = _legacy_choice(call.function_call) if legacy else call.tool_choice
    where = "functions" if legacy else "tools"
    shown = list(given or ())
    if len(shown) > _MOST_TOOLS:
        raise FieldRefused(where, f"'{where}' holds up to {_MOST_TOOLS} tools, got {len(shown)}", code="invalid_value")
    tools = {}
    for i, each in enumerate(shown):
        tool = _tool(each, f"{where}[{i}]", legacy=legacy)
        if tool.name in tools:
            raise FieldRefused(
                where, f"Invalid '{where}': the name '{tool.name}' stands there twice.", code="invalid_value"
            )
        tools[tool.name] = tool
    if not tools:
        if choice not in (None, "none", "auto"):
            name = "function_call" if legacy else "tool_choice"
            raise FieldRefused(name, f"'{name}' is only allowed when '{where}' are specified.")
        return ToolPlan(legacy=legacy)
    if choice == "none":
        return ToolPlan(legacy=legacy)
    allowed, forced = _choose(choice, tools, "function_call" if legacy else "tool_choice")
    parallel = call.parallel_tool_calls is not False and not legacy
    return ToolPlan(shown, tuple(allowed), forced, parallel, legacy)


def _tool(each: Any, where: str, *, legacy: bool) -> Tool:
    if not isinstance(each, dict):
        raise FieldRefused(where, f"Invalid type for '{where}': expected an object.", code="invalid_type")
    kind = each.get("type")
    if kind is None:
        raise _missing(f"{where}.type")
    if kind != "function":
        field = f"{where}.type"
        raise FieldRefused(field, f"Invalid value: {kind!r}. Supported values are: 'function'.", code="invalid_value")
    function, at = each.get("function"), where if legacy else f"{where}.function"
    if function is None:
        raise _missing(at)
    if not isinstance(function, dict):
        raise FieldRefused(at, f"Invalid type for '{at}': expected an object.", code="invalid_type")
    return Tool(_name(function, at), _parameters(function, at), _strict(function, at))


def _name(function: Mapping[str, Any], at: str) -> str:
    name, field = function.get("name"), f"{at}.name"
    if name is None:
        raise _missing(field)
    if not isinstance(name, str):
        raise FieldRefused(field, f"Invalid type for '{field}': expected a string.", code="invalid_type")
    if not _NAME.fullmatch(name):
        message = f"Invalid '{field}': {name!r} does not match the pattern '^{_NAME.pattern}$'."
        raise FieldRefused(field, message, code="invalid_value")
    return name


def _parameters(function: Mapping[str, Any], at: str) -> Mapping[str, Any]:
    parameters, field = function.get("parameters"), f"{at}.parameters"
    if parameters is None:
        return {}
    name = function["name"]
    if not isinstance(parameters, dict):
        raise FieldRefused(field, f"Invalid type for '{field}': expected an object.", code="invalid_type")
    kind = parameters.get("type", "object")
    if kind != "object":
        message = (
            f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"', got {kind!r}."
        )
        raise FieldRefused(field, message, code="invalid_function_parameters")
    properties = parameters.get("properties")
    if properties is not None and not isinstance(properties, dict):
        message = f"Invalid schema for function '{name}': 'properties' must be an object."
        raise FieldRefused(field, message, code="invalid_function_parameters")
    return parameters


def _strict(function: Mapping[str, Any], at: str) -> bool:
    strict, field = function.get("strict"), f"{at}.strict"
    if strict is not None and not isinstance(strict, bool):
        raise FieldRefused(field, f"Invalid type for '{field}': expected a boolean.", code="invalid_type")
    return bool(strict)


def _choose(choice: Any, tools: Mapping[str, Tool], field: str) -> tuple[Sequence[Tool], str]:
    """Return the tools that may be called, and which must be."""
    match choice:
        case None | "auto":
            return tuple(tools.values()), ""
        case "required":
            return tuple(tools.values()), ANY_TOOL
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
            return (_known(name, tools, field),), name
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list(allowed)}}:
            names = [each["function"]["name"] for each in allowed if _is_reference(each)]
            if not names or len(names) != len(allowed):
                message = f"Invalid '{field}.allowed_tools.tools': each must be a function by its name."
                raise FieldRefused(field, message, code="invalid_value")
            return tuple(_known(name, tools, field) for name in names), ANY_TOOL if mode == "required" else ""
    if isinstance(choice, str):
        listed = ", ".join(map(repr, _CHOICES))
        raise FieldRefused(field, f"Invalid value: {choice!r}. Supported values are: {listed}.", code="invalid_value")
    message = f"Invalid '{field}': it is one of {', '.join(_CHOICES)}, or an object that names a function."
    raise FieldRefused(field, message, hint='{"type": "function", "function": {"name": ...}}', code="invalid_value")


def _is_reference(each: Any) -> bool:
    function = each.get("function") if isinstance(each, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _known(name: str, tools: Mapping[str, Tool], field: str) -> Tool:
    if name not in tools:
        message = f"Invalid value for '{field}': the function '{name}' is not among the tools."
        raise FieldRefused(field, message, hint=f"there are {', '.join(tools)}", code="invalid_value")
    return tools[name]


def _legacy_choice(choice: Any) -> Any:
    if isinstance(choice, dict) and isinstance(choice.get("name"), str):
        return {"type": "function", "function": {"name": choice["name"]}}
    return choice


def _missing(field: str) -> FieldRefused:
    return FieldRefused(field, f"Missing required parameter: '{field}'.", code="missing_required_parameter")


def _object_schema(tool: Tool) -> dict[str, Any]:
    return {"type": "object", "properties": {}} | dict(tool.parameters)


def _call_schema(tool: Tool, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a call; the definitions that it refers to from the root move to `definitions`."""
    parameters = _object_schema(tool)
    for name, definition in parameters.pop("$defs", {}).items():
        if definitions.setdefault(name, definition) != definition:
            message = f"Invalid schema for function '{tool.name}': another function defines '$defs/{name}' differently."
            raise FieldRefused(
                "tools", message, hint="give one of them another name", code="invalid_function_parameters"
            )
    return {
        "properties": {"name": {"type": "string", "enum": [tool.name]}, "parameters": parameters},
        "required": ["name", "parameters"],
        "additionalProperties": False,
    }
