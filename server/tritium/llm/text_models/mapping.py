"""Which tensors of a model are a prompt, an answer and how to sample, as its config.pbtxt says.

    parameters { key: "openai.input"      value { string_value: "QUESTION" } }
    parameters { key: "openai.output"     value { string_value: "ANSWER" } }
    parameters { key: "openai.max_tokens" value { string_value: "LENGTH" } }

Everything is checked when the model is loaded; what is wrong is told by the parameter's name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import msgspec

from tritium.compat.config.model import ModelConfig, TensorSpec
from tritium.core.errors import InvalidArgument

PREFIX: Final = "openai."
SAMPLING: Final = (
    "max_tokens",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "user",
)
"""Fields of OpenAI's requests that can be mapped to an input."""
_TEXT: Final = frozenset({"stop", "user"})
OWN: Final = (
    "input",
    "output",
    "messages",
    "finish_reason",
    "stream",
    "responses",
    "others",
    "chat_template",
    "tokenizer",
)
_CONSTANT: Final = "set."
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {"responses": ("deltas", "cumulative"), "others": ("refuse", "ignore")}


@dataclass(frozen=True, slots=True)
class TextMapping:
    """How a model is offered. `fields` are inputs by the request's field; `constants` what other inputs always get."""

    input: TensorSpec | None
    output: TensorSpec
    messages: TensorSpec | None
    """The input that takes the messages of a chat as JSON, where the model renders them itself."""
    finish_reason: TensorSpec | None
    stream: TensorSpec | None
    """The BOOL input that tells whether the client wants a stream."""
    fields: Mapping[str, TensorSpec] = field(default_factory=dict)
    constants: Mapping[TensorSpec, list[Any]] = field(default_factory=dict)
    cumulative: bool = False
    """Each response holds all of the text so far, rather than what is new of it."""
    ignores_others: bool = False
    """A field that has no input is without effect, rather than refused."""
    template: Path | None = None
    tokenizer: Path | None = None


def read_mapping(config: ModelConfig, folder: Path) -> TextMapping | None:
    """Return how a model is offered, or None where its configuration has no parameter of these.

    Raises:
        InvalidArgument: a parameter is unknown, or names what the model does not have.
    """
    given = {
        key.removeprefix(PREFIX): value.string_value
        for key, value in config.proto.parameters.items()
        if key.startswith(PREFIX)
    }
    if not given:
        return None
    _check_names(given)
    reader = _Reader(config, given)
    mapping = TextMapping(
        input=reader.tensor("input", config.inputs, "BYTES"),
        output=reader.required("output", config.outputs, "BYTES"),
        messages=reader.tensor("messages", config.inputs, "BYTES"),
        finish_reason=reader.tensor("finish_reason", config.outputs, "BYTES"),
        stream=reader.tensor("stream", config.inputs, "BOOL"),
        fields={name: spec for name in SAMPLING if (spec := reader.tensor(name, config.inputs, _kind(name)))},
        constants=reader.constants(),
        cumulative=given.get("responses") == "cumulative",
        ignores_others=given.get("others") == "ignore",
        template=_path(folder, given, "chat_template"),
        tokenizer=_path(folder, given, "tokenizer"),
    )
    _check_whole(config, mapping)
    return mapping


class _Reader:
    """Looks up the tensors that parameters name."""

    def __init__(self, config: ModelConfig, given: Mapping[str, str]) -> None:
        self._config = config
        self._given = given

    def tensor(self, name: str, among: Mapping[str, TensorSpec], kind: str) -> TensorSpec | None:
        """Return the tensor that a parameter names, or None where it is not there; `kind` "" is any number."""
        wanted = self._given.get(name)
        if wanted is None:
            return None
        what = "input" if among is self._config.inputs else "output"
        if wanted not in among:
            near = get_close_matches(wanted, among, n=1)
            raise InvalidArgument(
                f"parameter '{PREFIX}{name}' names the {what} '{wanted}', "
                f"which model '{self._config.name}' does not have",
                hint=f"did you mean {near[0]}?" if near else f"it has: {', '.join(among)}",
            )
        spec = among[wanted]
        if spec.datatype != kind if kind else spec.datatype in ("BYTES", "BOOL"):
            raise InvalidArgument(
                f"parameter '{PREFIX}{name}' names the {what} '{wanted}' of type {spec.datatype}; "
                f"it has to be {kind or 'a number'}"
            )
        return spec

    def required(self, name: str, among: Mapping[str, TensorSpec], kind: str) -> TensorSpec:
        """Return the tensor that a parameter must name."""
        spec = self.tensor(name, among, kind)
        if spec is None:
            raise InvalidArgument(
                f"model '{self._config.name}' has parameters '{PREFIX}...' but not '{PREFIX}{name}'",
                hint=f"name the tensor that is its {name}",
            )
        return spec

    def constants(self) -> dict[TensorSpec, list[Any]]:
        """Return what inputs always get: JSON, or else a string."""
        found: dict[TensorSpec, list[Any]] = {}
        for key, text in self._given.items():
            if key.startswith(_CONSTANT):
                name = key.removeprefix(_CONSTANT)
                spec = self._config.inputs.get(name)
                if spec is None:
                    raise InvalidArgument(
                        f"parameter '{PREFIX}{key}' sets the input '{name}', "
                        f"which model '{self._config.name}' does not have",
                        hint=f"it has: {', '.join(self._config.inputs)}",
                    )
                found[spec] = _values(f"{PREFIX}{key}", text, spec)
        return found


def _check_names(given: Mapping[str, str]) -> None:
    known = (*OWN, *SAMPLING)
    for name, value in given.items():
        if name not in known and not name.startswith(_CONSTANT):
            near = get_close_matches(name, known, n=1)
            raise InvalidArgument(
                f"there is no parameter '{PREFIX}{name}'",
                hint=f"did you mean {PREFIX}{near[0]}?" if near else f"there are: {', '.join(known)}, set.INPUT",
            )
        if name in _CHOICES and value not in _CHOICES[name]:
            raise InvalidArgument(f"parameter '{PREFIX}{name}' is one of {', '.join(_CHOICES[name])}, not '{value}'")


def _check_whole(config: ModelConfig, mapping: TextMapping) -> None:
    if mapping.input is None and mapping.messages is None:
        raise InvalidArgument(
            f"model '{config.name}' is offered as a language model without a prompt",
            hint=f"name an input of text: '{PREFIX}input', or '{PREFIX}messages' for chats as JSON",
        )
    filled = {spec.name for spec in (mapping.stream, *mapping.constants) if spec}
    # A prompt comes in one of these two; a field may be left out of a request.
    filled |= {spec.name for spec in (mapping.input, mapping.messages) if spec}
    for spec in config.inputs.values():
        if not spec.optional and spec.name not in filled:
            what = "is mapped to a field that requests may leave out" if spec in mapping.fields.values() else "has none"
            raise InvalidArgument(
                f"input '{spec.name}' of model '{config.name}' is required and {what}",
                hint=f"make it optional, or set it: '{PREFIX}{_CONSTANT}{spec.name}'",
            )
    if mapping.input is not None and mapping.messages is not None:
        for spec in (mapping.input, mapping.messages):
            if not spec.optional:
                raise InvalidArgument(
                    f"input '{spec.name}' of model '{config.name}' has to be optional: a request fills either it or "
                    "the other one that takes prompts"
                )
    if mapping.template is not None and mapping.input is None:
        raise InvalidArgument(f"parameter '{PREFIX}chat_template' needs '{PREFIX}input', which takes what it renders")


def _kind(field_name: str) -> str:
    return "BYTES" if field_name in _TEXT else ""


def _path(folder: Path, given: Mapping[str, str], name: str) -> Path | None:
    if name not in given:
        return None
    path = folder / given[name]
    if not path.exists():
        raise InvalidArgument(
            f"parameter '{PREFIX}{name}' names {path}, which is not there",
            hint="a path is relative to the model's folder",
        )
    return path


def _values(parameter: str, text: str, spec: TensorSpec) -> list[Any]:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    values = value if isinstance(value, list) else [value]
    right = {"BYTES": str, "BOOL": bool}.get(spec.datatype, (int, float))
    if not all(isinstance(one, right) and (right is bool or not isinstance(one, bool)) for one in values):
        raise InvalidArgument(f"parameter '{parameter}' is no value of an input of type {spec.datatype}: {text}")
    return values
