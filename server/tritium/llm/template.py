"""Chat templates: messages to the text of a prompt, rendered as Hugging Face's `apply_chat_template` renders them.

A short conversation is rendered where it is asked for; one that turns out to be long, in a thread, from the beginning.
"""

import asyncio
import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jinja2

from tritium.core.errors import InvalidArgument
from tritium.llm.content_format import ContentFormat, detect_content_format
from tritium.llm.sandbox import MAX_CHARACTERS, Bounds, RenderContext, TemplateEnvironment, TemplateUnbounded

Message = dict[str, Any]
"""A message as templates see it: `role`, `content`, and whatever else the client sent."""

_CONTINUE_MARK = "<tritium:continue-here> "

_ENVIRONMENT = TemplateEnvironment()


_AT_ONCE = Bounds(steps=10_000, seconds=0.02, characters=128 << 10)
"""About as long as the event loop may be held up."""
_IN_ALL = Bounds(steps=20_000_000, seconds=10.0, characters=MAX_CHARACTERS)

_SAID = {
    "steps": f"it went on for {_IN_ALL.steps} steps",
    "time": f"it took more than {_IN_ALL.seconds:g} s",
    "characters": f"it wrote more than {_IN_ALL.characters} characters",
    "numbers": "it asked for a number or a width beyond all measure",
}


class ChatTemplate:
    """One compiled template.

    `variables` are what the tokenizer adds to every rendering: bos_token, eos_token and its other special tokens.
    """

    def __init__(
        self, source: str, variables: Mapping[str, Any], *, content_format: ContentFormat | None = None
    ) -> None:
        """Compile the template; `content_format` is what it takes where that is not to be detected.

        Raises:
            InvalidArgument: it is not a jinja2 template.
        """
        hint = "mend chat_template.jinja, or chat_template in tokenizer_config.json"
        try:
            tree = _ENVIRONMENT.parse(source)
            self._template = _ENVIRONMENT.from_string(tree)
            # Jinja hands out a ChainMap, which every rendering copies name by name through Python.
            self._template.globals = dict(self._template.globals)
        except jinja2.TemplateSyntaxError as error:
            said = f"the chat template does not parse: line {error.lineno}: {error.message}"
            raise InvalidArgument(said, hint=hint) from None
        except (RecursionError, MemoryError, SyntaxError, TemplateUnbounded):
            raise InvalidArgument("the chat template does not parse: it is nested too deeply", hint=hint) from None
        self.variables = dict(variables)
        self.source = source
        self.content_format = content_format or detect_content_format(tree)
        """Whether the template takes content as a string or as a list of parts."""

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        bounds: Bounds | None = None,
    ) -> str:
        """Return the prompt of a conversation; with `continue_final_message` it ends inside the last message.

        Raises:
            InvalidArgument: the template refuses the conversation, in its own words, or does not come to an end.
            TemplateUnbounded: it does not fit in `bounds`, which are narrower than the usual ones.
        """
        chat = list(messages)
        if continue_final_message:
            chat[-1] = _marked(chat[-1])
        values = {
            **self.variables,
            **(variables or {}),
            "messages": chat,
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
        }
        context = cast("RenderContext", self._template.new_context(values))
        context.limit(bounds or _IN_ALL)
        try:
            prompt = "".join(self._template.root_render_func(context))
        except TemplateUnbounded as error:
            if bounds is not None:
                raise
            raise InvalidArgument(f"the chat template was stopped: {_SAID[error.what]}") from None
        except (RecursionError, MemoryError):
            raise InvalidArgument("the chat template was stopped: it, or what it renders, is nested too deep") from None
        # A template is a program: its filters and operators raise TypeError and its like over what a client sent.
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise InvalidArgument(f"the chat template refuses these messages: {error}") from None
        return _cut(prompt, messages[-1]) if continue_final_message else prompt

    async def render_aside(self, messages: Sequence[Message], **given: Any) -> str:
        """Return the prompt as `render` does; what takes long is done in a thread.

        Raises:
            InvalidArgument: as `render`.
        """
        if len(messages) <= _AT_ONCE.steps:
            try:
                return self.render(messages, **given, bounds=_AT_ONCE)
            except TemplateUnbounded:
                pass
        return await asyncio.to_thread(self.render, messages, **given)


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


def _cut(prompt: str, message: Message) -> str:
    """Return the prompt up to the mark; a template that trims contents has taken the space before it too."""
    at = prompt.rfind(_CONTINUE_MARK.rstrip())
    if at < 0:
        raise InvalidArgument("continue_final_message is set, but the chat template leaves the last message out")
    # Hugging Face refuses too where a template shows the end of a message and has dropped its beginning.
    if _final_text(message).strip() not in prompt:
        raise InvalidArgument(
            "continue_final_message is set, but the chat template leaves out parts of the last message"
        )
    return prompt[:at] if prompt.startswith(_CONTINUE_MARK, at) else prompt[:at].rstrip()


def _final_text(message: Message) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return str(next(part["text"] for part in reversed(content) if "text" in part))
