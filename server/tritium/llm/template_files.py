"""The chat templates of a model: which files hold them, and which of several is meant.

chat_template.jinja    additional_chat_templates/NAME.jinja    chat_template in tokenizer_config.json, a text or a
list of {name, template}    chat_template.json (of processors)

An operator may put one of his own in their place, and a request may choose one by name, or bring one where it is
trusted to.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tritium.core.errors import InvalidArgument
from tritium.llm.errors import FieldRefused
from tritium.llm.model_files import BrokenFile, read_object
from tritium.llm.template import ChatTemplate
from tritium.llm.tokenizer_files import CONFIG, read_config, special_text

_FILE = "chat_template.jinja"
_FOLDER = "additional_chat_templates"
_LEGACY = "chat_template.json"
_DEFAULT, _TOOLS = "default", "tool_use"
_KEPT = 16
"""How many templates of requests are kept compiled."""
_LONGEST = 1 << 20
"""The longest template that a request may bring, in characters."""


class ChatTemplates:
    """The templates of one model by name, "default" for the one without."""

    def __init__(self, named: Mapping[str, ChatTemplate], *, trust_requests: bool = False) -> None:
        self._named = dict(named)
        self._trust_requests = trust_requests
        self._brought: OrderedDict[str, ChatTemplate] = OrderedDict()

    @property
    def default(self) -> ChatTemplate | None:
        """The template for conversations that ask for nothing else."""
        return self._named.get(_DEFAULT)

    @property
    def source(self) -> str:
        """Return what all of them say, for whoever looks for what the model writes."""
        return "\n".join(template.source for template in self._named.values())

    def choose(self, wanted: str | None = None, *, tools: bool = False) -> ChatTemplate:
        """Return the template for a conversation: the one it names or brings, that for tools, or the default one.

        Raises:
            FieldRefused: it brings one and is not trusted to, or one that does not parse.
            InvalidArgument: the model has no template, or none that is meant where nothing is said.
        """
        if wanted is not None:
            return self._named.get(wanted) or self._bring(wanted)
        if tools and _TOOLS in self._named:
            return self._named[_TOOLS]
        if _DEFAULT in self._named:
            return self._named[_DEFAULT]
        if self._named:
            raise InvalidArgument(
                "the model has several chat templates and none by default", hint=f"chat_template: {self._names()}"
            )
        raise InvalidArgument(
            "the model has no chat template",
            hint="use /v1/completions, or add chat_template.jinja to the model folder",
        )

    def _bring(self, source: str) -> ChatTemplate:
        if not self._trust_requests:
            raise FieldRefused(
                "chat_template",
                "a chat template cannot be sent with a request to this server",
                hint=f"name one of the model's own: {self._names()}" if self._named else "",
            )
        if len(source) > _LONGEST:
            raise FieldRefused("chat_template", f"chat_template is longer than {_LONGEST} characters")
        template = self._brought.get(source)
        if template is None:
            variables = next((template.variables for template in self._named.values()), {})
            try:
                template = ChatTemplate(source, variables)
            except InvalidArgument as error:
                raise FieldRefused("chat_template", error.message) from None
            self._brought[source] = template
            if len(self._brought) > _KEPT:
                self._brought.popitem(last=False)
        return template

    def _names(self) -> str:
        return " or ".join(sorted(self._named))


def read_templates(folder: Path, override: str | None = None, *, trust_requests: bool = False) -> ChatTemplates:
    """Read the chat templates of a model folder; `override`, a path, a name or a template, goes before.

    Raises:
        InvalidArgument: a file is broken; the message names it.
    """
    config = read_config(folder)
    variables = special_variables(config)
    sources = _sources(folder, config)
    if override is not None:
        sources = {_DEFAULT: sources.get(override) or _given(override)}
    named: dict[str, ChatTemplate] = {}
    for name, source in sources.items():
        try:
            named[name] = ChatTemplate(source, variables)
        except InvalidArgument as error:
            where = f"of {folder}" if name == _DEFAULT else f"'{name}' of {folder}"
            raise InvalidArgument(f"the chat template {where}: {error.message}", error.hint) from None
    return ChatTemplates(named, trust_requests=trust_requests)


def special_variables(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return bos_token, eos_token and their like as templates name them; additional ones are a list."""
    named: dict[str, Any] = {
        key: special_text(value) for key, value in config.items() if key.endswith("_token") and special_text(value)
    }
    listed = config.get("additional_special_tokens")
    if isinstance(listed, list) and listed:
        named["additional_special_tokens"] = [special_text(token) for token in listed]
    return named


def _sources(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the templates by name; files of their own go before tokenizer_config.json, as in transformers."""
    files = {path.stem: path for path in sorted((folder / _FOLDER).glob("*.jinja"))}
    if (folder / _FILE).is_file():
        files[_DEFAULT] = folder / _FILE
    if files:
        return {name: _text(path) for name, path in files.items()}
    template = config.get("chat_template")
    if template is None and (folder / _LEGACY).is_file():
        template = read_object(folder / _LEGACY).get("chat_template")
    if isinstance(template, dict):
        return {str(name): str(source) for name, source in template.items()}
    if isinstance(template, list):
        if not all(isinstance(each, dict) and {"name", "template"} <= each.keys() for each in template):
            raise BrokenFile(folder / CONFIG, "has a chat_template that is no list of {name, template}")
        return {str(each["name"]): str(each["template"]) for each in template}
    return {_DEFAULT: template} if isinstance(template, str) else {}


def _given(override: str) -> str:
    """Return an operator's template: the text of the file, or what is no path but a template itself."""
    if "\n" not in override and "{" not in override:
        path = Path(override)
        if not path.is_file():
            raise InvalidArgument(
                f"the chat template {override} is no file, and no template of the model",
                hint="write the path of a .jinja file, the name of one of the model's templates, or the template",
            )
        return _text(path)
    return override


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read: {error}", hint="chat templates are UTF-8 text") from None
