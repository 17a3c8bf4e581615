"""The jinja environment that chat templates run in: the names and rules of Hugging Face, and bounds of our own.

Templates get raise_exception, strftime_now, tojson, loop controls and the generation tag. A template is a program that
came with a model, or with a request: every block it enters and every piece of text it writes is counted, so that one
that does not end is stopped, and no single value grows beyond what a prompt can be.
"""

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
from jinja2.filters import do_format, do_replace, sync_do_join
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_CHARACTERS = 64 << 20
"""The longest text a template may write, or hold in one value."""
_MAX_WIDTH = 1 << 16
"""The largest number by which a template may pad, indent or repeat."""
_CLOCK_STEPS = 1_024
"""How many blocks are entered between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a rendering may spend: blocks entered, seconds, characters written."""

    steps: int
    seconds: float
    characters: int


class TemplateUnbounded(Exception):
    """A template did more than it was allowed; `what` is the bound it ran into."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class RenderContext(jinja2.runtime.Context):
    """The variables of one rendering, and what it has left to spend."""

    steps_left = 1
    characters_left = MAX_CHARACTERS
    deadline_s = 0.0

    def limit(self, bounds: Bounds) -> None:
        """Allow so much from now."""
        self.steps_left = bounds.steps
        self.characters_left = bounds.characters
        self.deadline_s = time.monotonic() + bounds.seconds

    def tick(self) -> None:
        """Count a block that is entered; compiled templates call this."""
        left = self.steps_left - 1
        self.steps_left = left
        if left < 0:
            raise TemplateUnbounded("steps")
        if not left % _CLOCK_STEPS and time.monotonic() > self.deadline_s:
            raise TemplateUnbounded("time")

    def written(self, text: str) -> str:
        """Count a piece of text that is written; compiled templates call this."""
        self.characters_left -= len(text)
        if self.characters_left < 0:
            raise TemplateUnbounded("characters")
        return text


class _Compiler(jinja2.compiler.CodeGenerator):
    """Compiles templates that count what they do."""

    def blockvisit(self, nodes: Iterable[jinja2.nodes.Node], frame: jinja2.compiler.Frame) -> None:
        self.writeline("context.tick()")
        super().blockvisit(nodes, frame)

    def visit_Concat(  # noqa: N802  jinja2's name
        self, node: jinja2.nodes.Concat, frame: jinja2.compiler.Frame
    ) -> None:
        self.write("environment.concatenated(")
        super().visit_Concat(node, frame)
        self.write(")")

    def _output_child_pre(self, node: jinja2.nodes.Expr, frame: jinja2.compiler.Frame, finalize: Any) -> None:
        self.write("context.written(")
        super()._output_child_pre(node, frame, finalize)

    def _output_child_post(self, node: jinja2.nodes.Expr, frame: jinja2.compiler.Frame, finalize: Any) -> None:
        super()._output_child_post(node, frame, finalize)
        self.write(")")


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Hugging Face's environment of chat templates, whose operators and calls make nothing without measure."""

    code_generator_class = _Compiler
    context_class = RenderContext
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
        self.filters["tojson"] = _tojson
        for name in ("center", "indent", "wordwrap", "batch", "slice", "truncate"):
            self.filters[name] = _narrow(self.filters[name])
        for name, bounded in (("format", _format), ("replace", _replace), ("join", _join)):
            self.filters[name] = bounded
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def concatenated(self, text: str) -> str:
        """Check what `~` has made."""
        if len(text) > MAX_CHARACTERS:
            raise TemplateUnbounded("characters")
        return text

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Compute `+`, `*`, `**` and `%` where the result is of a size that can be foreseen."""
        if operator == "+":
            made = left + right
            if isinstance(made, str | list | tuple) and len(made) > MAX_CHARACTERS:
                raise TemplateUnbounded("characters")
            return made
        if operator == "*":
            _check_repeat(left, right)
        elif operator == "**" and not (abs(left) <= _MAX_WIDTH and abs(right) <= 64):
            raise TemplateUnbounded("numbers")
        elif operator == "%" and isinstance(left, str):
            _check_form(left)
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Read an attribute; of messages, which are plain dicts, without the detour over an exception."""
        if type(obj) is dict and attribute in obj and attribute not in _DICT_METHODS:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return str.format inside the sandbox, for formats without great widths."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_form(value.__self__)
        return wrapped

    def call(
        self,
        context: jinja2.runtime.Context,
        obj: Any,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call what a template calls, without numbers that would make a text of any size."""
        if args and isinstance(getattr(obj, "__self__", None), str):
            _check_widths(args)
            if obj.__name__ == "replace":
                _check_replace(obj.__self__, *args[:2])
            elif obj.__name__ == "join":
                args = (_joinable(args[0], obj.__self__),)
        return super().call(context, obj, *args, **kwargs)


class _Generation(jinja2.ext.Extension):
    """{% generation %} marks assistant text for training; to a server it is only its body."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it as a plain set

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call block, as Hugging Face's is: what its body sets is unset after it.
        return jinja2.nodes.CallBlock(self.call_method("shown"), [], [], body).set_lineno(line)

    def shown(self, caller: Callable[[], str]) -> str:
        """Return the body."""
        return caller()


_DICT_METHODS = frozenset(dir(dict))

_WIDTH = re.compile(r"\d{6}|%[^a-zA-Z%]*\*|\{[^{}]*:[^{}]*\{")
"""A width of six digits or more in a format, or one that is an argument itself."""


def _check_form(form: str) -> None:
    if _WIDTH.search(form):
        raise TemplateUnbounded("numbers")


def _check_widths(values: Iterable[Any]) -> None:
    for value in values:
        if type(value) is int and value > _MAX_WIDTH:
            raise TemplateUnbounded("numbers")


def _check_repeat(left: Any, right: Any) -> None:
    """Refuse to repeat a text or list to more than a prompt can be, or to multiply without end."""
    count, value = (left, right) if isinstance(left, int) else (right, left)
    if isinstance(value, int):
        if value.bit_length() > MAX_CHARACTERS.bit_length() * 8:
            raise TemplateUnbounded("numbers")
    elif isinstance(value, str | list | tuple) and isinstance(count, int) and len(value) * count > MAX_CHARACTERS:
        raise TemplateUnbounded("characters")


def _narrow(filter_: Callable[..., Any]) -> Any:
    """Return a filter that takes no great numbers."""

    def narrow(*args: Any, **kwargs: Any) -> Any:
        _check_widths(args)
        _check_widths(kwargs.values())
        return filter_(*args, **kwargs)

    for name in ("jinja_pass_arg", "jinja_async_variant"):
        if hasattr(filter_, name):
            setattr(narrow, name, getattr(filter_, name))
    return narrow


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    _check_form(str(value))
    return do_format(value, *args, **kwargs)


@jinja2.pass_eval_context
def _replace(context: jinja2.nodes.EvalContext, text: str, old: str, new: str, count: int | None = None) -> str:
    _check_replace(str(text), old, new)
    return do_replace(context, text, old, new, count)


def _check_replace(text: str, old: Any = "", new: Any = "") -> None:
    _check_repeat(str(new), len(text) // max(1, len(str(old))))


@jinja2.pass_eval_context
def _join(
    context: jinja2.nodes.EvalContext, values: Iterable[Any], d: str = "", attribute: str | int | None = None
) -> str:
    return sync_do_join(context, _joinable(values, d), d, attribute)


def _joinable(values: Iterable[Any], between: str) -> list[Any]:
    """Return what is to be joined, once its length is known to be that of a prompt."""
    listed = list(values)
    if sum(len(value) if isinstance(value, str) else 1 for value in listed) + len(between) * len(listed) > (
        MAX_CHARACTERS
    ):
        raise TemplateUnbounded("characters")
    return listed


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
    if indent is not None:
        _check_widths((indent,))
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
