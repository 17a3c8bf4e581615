"""Between a model's folder and its card: what a worker says of the model, and the folder that a front makes of that.

worker: folder -> files by checksum + settings -> ModelCard
front:  ModelCard -> files into a cache by checksum -> a model folder without weights
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tritium.backends.engine import EngineInfo
from tritium.cluster.card import CardFile, ModelCard
from tritium.compat.config.parse import parse_text
from tritium.core.errors import InvalidArgument
from tritium.llm.facade.alias import PARAMETER as ALIASES
from tritium.llm.loader import Prepared
from tritium.llm.model_files import ModelFiles, read_object
from tritium.llm.reading.configured import REASONING_PARSER, TOOL_PARSER
from tritium.llm.tokenizer_files import PATTERNS

MOST_FILE_BYTES = 256 << 20
MOST_FILES = 200
_WANTED = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "additional_chat_templates/*.jinja")
_WEIGHTS_INDEX = ".index.json"
_SETTINGS = (TOOL_PARSER, "tool_call_parser", REASONING_PARSER, ALIASES, "override_generation_config")
"""What of model.json concerns a front, beside the chat template and the recommended sampling."""

_LORAS = "loras"
_MODEL = "files"
_NAME = re.compile(r"[\w][\w.\-]*")
_BACKENDS = frozenset({"vllm", "tensorrtllm"})
"""The backends of language models; of another one, a front would run what it was sent."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CardAndFiles:
    """A card, and where each of its files lies, by checksum."""

    card: ModelCard
    paths: Mapping[str, Path]


def make_card(model: str, info: EngineInfo, prepared: Prepared, config: str) -> CardAndFiles:
    """Describe a model for fronts that do not have it; `config` is the text of its config.pbtxt, or empty.

    Raises:
        InvalidArgument: one of its files cannot be read.
    """
    found = _files_in(prepared.folder)
    if prepared.tokenizer_folder != prepared.folder:
        # A tokenizer of its own goes before whatever lies beside the weights.
        found = {name: path for name, path in found.items() if not _is_tokenizer(path)}
        found |= _files_in(prepared.tokenizer_folder)
    files, paths = [], {}
    for name, path in sorted(found.items()):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from None
        sha256 = hashlib.sha256(data).hexdigest()
        files.append(CardFile(name, len(data), sha256))
        paths[sha256] = path
    settings = json.dumps(_settings(prepared.files), sort_keys=True)
    return CardAndFiles(ModelCard(model, info, tuple(files), settings, config), paths)


def check_card(card: ModelCard) -> None:
    """Refuse a card that no worker of ours would make: its names become names of files, its settings a model's.

    Raises:
        InvalidArgument: it names a file outside its folder, too many, or too large ones; or it describes no language
            model.
    """
    if not _NAME.fullmatch(card.model):
        raise InvalidArgument(f"'{card.model}' is no name of a model")
    if len(card.files) > MOST_FILES:
        raise InvalidArgument(f"the card of model '{card.model}' has {len(card.files)} files, more than {MOST_FILES}")
    for file in card.files:
        parts = PurePosixPath(file.name).parts
        if not parts or any(not _NAME.fullmatch(part) for part in parts) or not _SHA256.fullmatch(file.sha256):
            raise InvalidArgument(f"the card of model '{card.model}' names no file by '{file.name}'")
        if not 0 <= file.size_bytes <= MOST_FILE_BYTES:
            raise InvalidArgument(f"{file.name} of model '{card.model}' has {file.size_bytes} bytes, too many")
    info = card.info
    if info.block_tokens < 1 or info.context_tokens < 1 or min(info.total_blocks, info.max_sequences) < 0:
        raise InvalidArgument(f"the card of model '{card.model}' has limits that no engine has")
    config = parse_text(_config(card), "config.pbtxt")
    if config.problems:
        raise InvalidArgument(
            f"the card of model '{card.model}' has no sound config.pbtxt: {config.problems[0].message}"
        )
    if config.message.backend not in _BACKENDS or config.message.platform:
        raise InvalidArgument(f"the card of model '{card.model}' has a config.pbtxt of no language model")
    _settings_in(card)


def default_cache() -> Path:
    """Return where the files of cards are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tritium" / "cards"


class CardCache:
    """Files by checksum; several fronts may use one folder at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def missing(self, card: ModelCard) -> list[CardFile]:
        """Return the files that have to be fetched."""
        return [file for file in card.files if not self._whole(file)]

    def keep(self, file: CardFile, data: bytes) -> None:
        """Keep a file that was fetched and checked.

        Raises:
            OSError: it cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=self._folder, prefix=".")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
            Path(fresh).replace(self._folder / file.sha256)
        finally:
            Path(fresh).unlink(missing_ok=True)

    def lay_out(self, card: ModelCard, home: Path) -> Path:
        """Write the model folder of a card, all of whose files are here, into a repository; return it.

        Raises:
            OSError: it cannot be written.
        """
        folder = home / card.model
        if folder.exists():
            shutil.rmtree(folder)
        version = folder / "1"
        for file in card.files:
            path = version / _MODEL / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._folder / file.sha256, path)
            except OSError:  # another file system
                shutil.copyfile(self._folder / file.sha256, path)
        (version / _MODEL).mkdir(parents=True, exist_ok=True)
        settings = _settings_in(card)
        loras = settings.pop(_LORAS, {})
        (version / "multi_lora.json").write_text(json.dumps(loras))
        (version / "model.json").write_text(
            json.dumps({**settings, "model": _MODEL, **({"enable_lora": True} if loras else {})})
        )
        (folder / "config.pbtxt").write_text(_config(card))
        return folder

    def _whole(self, file: CardFile) -> bool:
        path = self._folder / file.sha256
        return path.is_file() and path.stat().st_size == file.size_bytes


def _settings_in(card: ModelCard) -> dict[str, Any]:
    """Return the settings of a card.

    Raises:
        InvalidArgument: they are none.
    """
    try:
        settings = json.loads(card.settings)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict) or not isinstance(settings.get(_LORAS, {}), dict):
        raise InvalidArgument(f"the settings in the card of model '{card.model}' are no JSON object")
    return settings


def _config(card: ModelCard) -> str:
    """Return the configuration as it is, with the engine that runs the model; of two entries the last one counts."""
    given = card.config if card.config.strip() else 'backend: "vllm"\n'
    engine = json.dumps(card.info.engine)
    return f'{given}\nparameters {{ key: "engine" value {{ string_value: {engine} }} }}\n'


def _files_in(folder: Path) -> dict[str, Path]:
    found = {
        path.relative_to(folder).as_posix(): path
        for pattern in _WANTED
        for path in folder.glob(pattern)
        if path.is_file() and not path.name.endswith(_WEIGHTS_INDEX) and path.stat().st_size <= MOST_FILE_BYTES
    }
    return {name: path for name, path in found.items() if all(_NAME.fullmatch(part) for part in Path(name).parts)}


def _is_tokenizer(path: Path) -> bool:
    return any(path.match(pattern) for pattern in PATTERNS) or path.name.startswith("tokenizer")


def _settings(files: ModelFiles) -> dict[str, Any]:
    arguments = files.arguments
    settings = {name: arguments[name] for name in _SETTINGS if arguments.get(name) is not None}
    chosen = arguments.get("generation_config", "auto")
    if chosen != "auto":
        # What another folder recommends is said in full; "vllm" passes over what the model itself recommends.
        settings["generation_config"] = "vllm"
        if chosen != "vllm":
            recommended = read_object(Path(str(chosen)) / "generation_config.json")
            settings["override_generation_config"] = {**recommended, **settings.get("override_generation_config", {})}
    if template := files.chat_template:
        settings["chat_template"] = _text_of(template)
    if files.loras:
        settings[_LORAS] = dict(files.loras)
    return settings


def _text_of(template: str) -> str:
    """Return a template, which may be a file."""
    try:
        return Path(template).read_text()
    except OSError:
        return template
