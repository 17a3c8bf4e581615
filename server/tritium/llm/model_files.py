"""What a version folder of vllm_backend's layout holds, and where the model itself lies.

MODEL/config.pbtxt   MODEL/1/model.json   MODEL/1/multi_lora.json   and weights anywhere: beside model.json, by an
absolute path, or in the Hugging Face cache under the name of their hub repository.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritium.core.errors import InvalidArgument
from tritium.llm.errors import FieldRefused
from tritium.llm.sampling import split

WEIGHTS = "*.safetensors"
_ARGUMENTS = "model.json"
_LORAS = "multi_lora.json"
_TEMPLATE = "chat_template"

# Fields of generation_config.json that vLLM's own server takes as defaults.
_GENERATION = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_GENERATION_HINT = "see the model's generation_config.json, and override_generation_config in model.json"


class BrokenFile(InvalidArgument):
    """A file that is missing or cannot be used; `said` is the message without its path. Lines count from 1; 0: none."""

    def __init__(
        self, path: Path, said: str, hint: str = "", *, line: int = 0, column: int = 0, source_line: str = ""
    ) -> None:
        super().__init__(f"{path}:{line}:{column}: {said}" if line else f"{path} {said}", hint)
        self.path, self.said, self.line, self.column, self.source_line = path, said, line, column, source_line


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """`arguments` is model.json as it is; `loras` the path of each adapter by name."""

    arguments: Mapping[str, Any]
    version_folder: Path
    loras: Mapping[str, str] = field(default_factory=dict)
    read_from: Path | None = None
    """The file that says so, where it is not model.json."""

    @property
    def model(self) -> str:
        """Return the model as model.json names it: a path, or the name of a hub repository."""
        return str(self.arguments["model"])

    @property
    def path(self) -> Path:
        """Return the file that says all this: model.json, unless another was read."""
        return self.read_from or self.version_folder / _ARGUMENTS

    @property
    def engine_arguments(self) -> dict[str, Any]:
        """Return the arguments that are the engine's: those but the server's own."""
        return {name: value for name, value in self.arguments.items() if name != _TEMPLATE}

    @property
    def chat_template(self) -> str | None:
        """Return the template that goes before the model's own: its name, a path beside model.json, or itself."""
        given = self.arguments.get(_TEMPLATE)
        beside = self.version_folder / given if isinstance(given, str) and "\n" not in given else None
        return str(beside) if beside is not None and _is_file(beside) else given


def read_model_files(version_folder: Path) -> ModelFiles:
    """Read model.json, and multi_lora.json where adapters are enabled.

    Raises:
        BrokenFile: a file is missing or broken; the message has its path, and line and column of the fault.
    """
    path = version_folder / _ARGUMENTS
    arguments = read_object(path, hint='for example {"model": "tiny_chat"}, a folder beside it')
    if not isinstance(arguments.get("model"), str) or not arguments["model"]:
        raise BrokenFile(
            path,
            'does not say which model: "model" is missing or no string',
            hint='add "model": a folder beside model.json, a path, or a hub name',
        )
    if not isinstance(arguments.get(_TEMPLATE, ""), str):
        raise BrokenFile(path, '"chat_template" is no string', hint="a path, or the template itself")
    loras: dict[str, str] = {}
    if str(arguments.get("enable_lora", "")).lower() == "true":
        for name, adapter in read_object(version_folder / _LORAS, hint="enable_lora needs it").items():
            if not isinstance(adapter, str):
                raise BrokenFile(version_folder / _LORAS, f"gives the adapter '{name}' no path")
            loras[name] = str(_beside(version_folder, adapter) or adapter)
    return ModelFiles(arguments, version_folder, loras)


ReadFiles = Callable[[Path], ModelFiles]
"""Reads a version folder; raises BrokenFile."""


def find_folder(files: ModelFiles, name: str, *, needs: str) -> Path | None:
    """Return the folder of a model: beside model.json, by path, or the snapshot in the Hugging Face cache.

    The cache may hold only some of a model's files; a snapshot counts when it has one that matches `needs`.
    """
    beside = _beside(files.version_folder, name)
    if beside is not None:
        return beside
    snapshot = _cached(name, str(files.arguments.get("revision") or "main"))
    return snapshot if any(snapshot.glob(needs)) else None


def sampling_defaults(folder: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling fields that hold where a request says nothing.

    They are what the model's generation_config.json recommends. model.json turns that off as vLLM does, by
    "generation_config": "vllm", names another folder of it, and says otherwise in "override_generation_config".

    Raises:
        InvalidArgument: a value is none that sampling can have.
    """
    recommended = {**_recommended(folder, arguments), **_overriding(arguments)}
    defaults = {name: recommended[name] for name in _GENERATION if recommended.get(name) is not None}
    try:
        split(defaults)
    except FieldRefused as error:
        raise InvalidArgument(f"{error.message}, among what is recommended for sampling", _GENERATION_HINT) from None
    return defaults


def longest_answer(folder: Path, arguments: Mapping[str, Any]) -> int | None:
    """Return the most tokens that an answer may have, where model.json says so as vLLM has it: by max_new_tokens.

    Raises:
        InvalidArgument: it is no number of tokens.
    """
    chosen = arguments.get("generation_config", "auto")
    named = {} if chosen in ("auto", "vllm") else _recommended(folder, arguments)
    most = {**named, **_overriding(arguments)}.get("max_new_tokens")
    if most is None or (type(most) is int and most > 0):
        return most
    raise InvalidArgument(f"max_new_tokens must be at least 1, got {most!r}", _GENERATION_HINT)


def _recommended(folder: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    chosen = arguments.get("generation_config", "auto")
    if chosen == "vllm":
        return {}
    path = (folder if chosen == "auto" else Path(str(chosen))) / "generation_config.json"
    return read_object(path) if path.is_file() else {}


def _overriding(arguments: Mapping[str, Any]) -> dict[str, Any]:
    given = arguments.get("override_generation_config") or {}
    if not isinstance(given, dict):
        raise InvalidArgument(
            f"override_generation_config is a {type(given).__name__}, not an object",
            hint='for example {"temperature": 0.2, "max_new_tokens": 512}',
        )
    return given


def class_labels(folder: Path) -> dict[int, str]:
    """Return the names of the classes that a classifier tells apart, from id2label in config.json."""
    path = folder / "config.json"
    named = read_object(path).get("id2label") if path.is_file() else None
    if not isinstance(named, dict):
        return {}
    return {int(key): str(name) for key, name in named.items() if str(key).isdecimal()}


def read_object(path: Path, hint: str = "") -> dict[str, Any]:
    """Read a JSON object; a byte order mark is passed over.

    Raises:
        BrokenFile: the file is missing, no JSON, or JSON but no object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BrokenFile(path, "is missing", hint) from None
    except OSError as error:
        raise BrokenFile(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BrokenFile(path, "is not UTF-8 text", hint="save it as UTF-8") from None
    try:
        read = json.loads(text)
    except json.JSONDecodeError as error:
        line = text.split("\n")[error.lineno - 1].rstrip("\r")
        raise BrokenFile(
            path, f"not JSON: {error.msg}", line=error.lineno, column=error.colno, source_line=line
        ) from None
    except RecursionError:
        raise BrokenFile(path, "is nested too deeply") from None
    if not isinstance(read, dict):
        raise BrokenFile(path, f"holds a {type(read).__name__}, not an object", hint)
    return read


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a template without line ends may be longer than a path can be
        return False


def _beside(version_folder: Path, name: str) -> Path | None:
    return next((path for path in (version_folder / name, Path(name)) if path.is_dir()), None)


def hub_cache() -> Path:
    """Return where huggingface_hub keeps what it has fetched, by its own variables."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("HF_HOME") or caches / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or home / "hub")


def _cached(name: str, revision: str) -> Path:
    """Return where the cache (in huggingface_hub's layout) has a hub repository, if it has it."""
    repository = hub_cache() / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    return repository / "snapshots" / commit
