"""Where a checkpoint's config.json is: named itself, in its folder, or told by the models of a repository."""

import json
from pathlib import Path

from tritium.migration.forecasting.checkpoint import BadCheckpoint

_ENGINE = '"pretrained_config"'


def config_of(path: Path) -> Path:
    """Return the config.json that a path means; of a model repository that of its one language model.

    Raises:
        BadCheckpoint: there is none, or one of several; the message says where.
    """
    if path.is_file() or (path / "config.json").is_file():
        return path
    if not path.is_dir():
        raise BadCheckpoint(f"{path}: there is no such file or folder")
    here: set[Path] = set()
    elsewhere: set[str] = set()
    for arguments in sorted(path.rglob("model.json")):
        named = _named(arguments)
        if not named:
            continue
        found = next((place for place in (Path(named), arguments.parent / named) if _is_checkpoint(place)), None)
        if found is not None:
            here.add(found)
        else:
            elsewhere.add(named)
    here |= {file for file in path.rglob("config.json") if _ENGINE in file.read_text(errors="replace")}
    if len(here) == 1:
        return here.pop()
    if here:
        raise BadCheckpoint(f"{path} has several models, name one: {', '.join(sorted(map(str, here)))}")
    if elsewhere:
        names = ", ".join(sorted(elsewhere))
        raise BadCheckpoint(f"{path} serves {names}, which is kept elsewhere: name that checkpoint's config.json")
    raise BadCheckpoint(f"{path} has no config.json, and no model.json below it names a checkpoint")


def _named(arguments: Path) -> str:
    try:
        document = json.loads(arguments.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return ""
    named = document.get("model", "") if isinstance(document, dict) else ""
    return named if isinstance(named, str) else ""


def _is_checkpoint(place: Path) -> bool:
    return (place / "config.json").is_file()
