"""What `tritium worker` is to serve, from what its operator wrote.

MODEL/config.pbtxt + MODEL/1/model.json    a model of a repository, as it is
MODEL/model.json                           one version of it
MODEL/config.json, tokenizer.json, ...     a model's own folder
ORGANISATION/NAME                          a name on the Hugging Face hub

The last two are given a model.json in a folder of their own.
"""

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritium.backends.contract import ModelSource
from tritium.cli.options import SettingsError
from tritium.cli.worker_options import WorkerOptions
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.config.parse import parse_file, parse_text
from tritium.repository.cloud.address import is_cloud

_NAME = re.compile(r"[\w][\w.\-]*")
_BARE = 'backend: "vllm"\n'


@dataclass(frozen=True, slots=True)
class WorkerModel:
    """A version that a loader can prepare; `config` is the text of its config.pbtxt, as fronts are to have it."""

    source: ModelSource
    config: str


def find_worker_model(options: WorkerOptions, scratch: Path) -> WorkerModel:
    """Find the model that the options name; what has to be written goes into `scratch`.

    Raises:
        SettingsError: there is no such model, or an argument cannot be read.
    """
    if not options.model:
        raise SettingsError("no model to serve\n  hint: tritium worker FOLDER --discovery etcd://HOST:2379")
    folder = Path(options.model)
    hub = not folder.is_dir()
    if hub and (folder.is_absolute() or options.model.startswith(".") or not _may_be_fetched(options.model)):
        raise SettingsError(f"there is no folder {options.model}")
    _refuse_repository(folder)
    name = options.name or (options.model.rstrip("/").rpartition("/")[2] if hub else _name_of(folder.resolve()))
    if not _NAME.fullmatch(name):
        raise SettingsError(f"'{name}' is no name of a model\n  hint: --name takes letters, digits, '_', '.' and '-'")
    version, text, home = _version(folder, hub=hub, scratch=scratch, name=name, model=options.model)
    config = _config(text, home, name)
    for argument in options.engine_argument:
        key, equals, value = argument.partition("=")
        if not equals or not key:
            raise SettingsError(f"engine_argument takes NAME=VALUE, not '{argument}'")
        config.proto.parameters[f"engine.{key}"].string_value = value
    # Fronts know the model by the name that it is served by.
    return WorkerModel(ModelSource(config, home, version), re.sub(r"(?m)^\s*name\s*:.*$", "", text))


def _refuse_repository(folder: Path) -> None:
    """Refuse a whole repository, and a name in one that is no model of it: the hub would be asked for that."""
    if folder.is_dir() and not any((folder / name).exists() for name in ("config.pbtxt", "model.json", "config.json")):
        repository, problem = folder, f"{folder} is a repository, and a worker serves one model"
    elif not folder.exists() and folder.parent != Path():
        repository, problem = folder.parent, f"there is no folder {folder}"
    else:
        return
    if models := sorted(path.parent.name for path in repository.glob("*/config.pbtxt")):
        near = difflib.get_close_matches(folder.name, models, 1) or models[:1]
        raise SettingsError(f"{problem}\n  hint: name a model's folder, such as {repository / near[0]}")


def _version(folder: Path, *, hub: bool, scratch: Path, name: str, model: str) -> tuple[str, str, Path]:
    """Return the version, the text of the configuration, and the model's folder."""
    if not hub and (folder / "config.pbtxt").is_file():
        versions = [entry.name for entry in folder.iterdir() if entry.name.isdecimal() and entry.is_dir()]
        if not versions:
            raise SettingsError(f"{folder} has no version\n  hint: a version is a folder in it: {folder}/1/model.json")
        return max(versions, key=int), (folder / "config.pbtxt").read_text(), folder
    if not hub and (folder / "model.json").is_file():
        above = folder.parent / "config.pbtxt"
        return folder.name, above.read_text() if above.is_file() else _BARE, folder.parent
    home = scratch / name
    (home / "1").mkdir(parents=True)
    (home / "1" / "model.json").write_text(json.dumps({"model": model if hub else str(folder.resolve())}))
    return "1", _BARE, home


def _config(text: str, home: Path, name: str) -> ModelConfig:
    file = home / "config.pbtxt"
    parsed = parse_file(file) if file.is_file() else parse_text(text, str(file))
    if parsed.problems:
        raise SettingsError("\n".join(problem.render() for problem in parsed.problems))
    message: Any = parsed.message
    message.name = name
    return from_proto(message)


def _name_of(folder: Path) -> str:
    """Return the model's name: its folder's, unless that is a version's."""
    return folder.parent.name if (folder / "model.json").is_file() and folder.name.isdecimal() else folder.name


def _may_be_fetched(model: str) -> bool:
    return is_cloud(model) or re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", model) is not None
