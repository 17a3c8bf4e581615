"""Chat templates: messages to the text of a prompt, rendered as Hugging Face's `apply_chat_template` renders them.

The template is the model's own and runs in jinja2's immutable sandbox with the names that templates are written
against: raise_exception, strftime_now, tojson, loop controls and the generation tag.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tritium.core.errors import InvalidArgument

Message = dict[str, Any]
"""A message as templates see it: `role`, `content`, and whatever else the client sent."""

_CONTINUE_MARK = "<tritium:continue-here> "


class _Generation(jinja2.ext.Extension):
    """{% generation %} marks assistant text for training; to a server it is only its body."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it as a plain set

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:  # noqa: A002  templates may name the argument
    return datetime.now().strftime(format)  # noqa: DTZ005  templates print the server's own date, as Hugging Face does


def _tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  templates pass these by place
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


_ENVIRONMENT = _environment()


class ChatTemplate:
    """One compiled template.

    `variables` are what the tokenizer adds to every rendering: bos_token, eos_token and its other special tokens.
    """

    def __init__(self, source: str, variables: Mapping[str, Any]) -> None:
        """Compile the template.

        Raises:
            InvalidArgument: it is not a jinja2 template.
        """
        try:
            tree = _ENVIRONMENT.parse(source)
            self._template = _ENVIRONMENT.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise InvalidArgument(
                f"the chat template does not parse: line {error.lineno}: {error.message}",
                hint="mend chat_template.jinja, or chat_template in tokenizer_config.json",
            ) from None
        self._variables = dict(variables)
        self.takes_parts = _iterates_content(tree)
        """Whether the template walks a list of content parts itself; otherwise it is handed the joined text."""

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt of a conversation; with `continue_final_message` it ends inside the last message.

        Raises:
            InvalidArgument: the template refuses the conversation, in its own words.
        """
        chat = list(messages)
        if continue_final_message:
            chat[-1] = _marked(chat[-1])
        try:
            prompt = self._template.render(
                {
                    **self._variables,
                    "messages": chat,
                    "tools": tools,
                    "documents": documents,
                    "add_generation_prompt": add_generation_prompt,
                    **(variables or {}),
                }
            )
        # A template is a program: its filters and operators raise TypeError and its like over what a client sent.
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise InvalidArgument(f"the chat template refuses these messages: {error}") from None
        return _cut(prompt) if continue_final_message else prompt


def _marked(message: Message) -> Message:
    """Return the message with a mark at the end of its text."""
    marked = copy.deepcopy(message)
    content = marked.get("content")
    if isinstance(content, str):
        marked["content"] = content + _CONTINUE_MARK
        return marked
    for part in reversed(content) if isinstance(content, list) else ():
        if isinstance(part, dict) and "text" in part:
            part["text"] += _CONTINUE_MARK
            return marked
    raise InvalidArgument("continue_final_message is set, but the last message has no text to continue")


def _cut(prompt: str) -> str:
    """Return the prompt up to the mark; a template that trims contents has taken the space before it too."""
    at = prompt.rfind(_CONTINUE_MARK.rstrip())
    if at < 0:
        raise InvalidArgument("continue_final_message is set, but the chat template leaves the last message out")
    return prompt[:at] if prompt.startswith(_CONTINUE_MARK, at) else prompt[:at].rstrip()


def _iterates_content(tree: jinja2.nodes.Template) -> bool:
    """Tell whether a `for` of the template runs over message contents, directly or through a variable set to one."""
    contents: set[str] = set()
    for assign in tree.find_all(jinja2.nodes.Assign):
        if isinstance(assign.target, jinja2.nodes.Name) and _is_content(assign.node, contents):
            contents.add(assign.target.name)
    return any(_is_content(loop.iter, contents) for loop in tree.find_all(jinja2.nodes.For))


def _is_content(node: jinja2.nodes.Node, names: set[str]) -> bool:
    if isinstance(node, jinja2.nodes.Filter) and node.node is not None:
        return _is_content(node.node, names)
    if isinstance(node, jinja2.nodes.Getitem):
        return isinstance(node.arg, jinja2.nodes.Const) and node.arg.value == "content"
    if isinstance(node, jinja2.nodes.Getattr):
        return node.attr == "content"
    return isinstance(node, jinja2.nodes.Name) and node.name in names
