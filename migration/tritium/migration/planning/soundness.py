"""Whether an edited file still reads as before: the last check of a change, whatever rule it comes from."""

import json
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # it ships no types

from tritium.compat.config.parse import parse_text
from tritium.migration.text.mask import cover

_YAML = {".yaml", ".yml", ".tpl"}


def reads_as_before(path: Path, before: str, after: str) -> bool:
    """Tell whether a file that its parser took is still taken, with as many documents and as deep."""
    return _shape(path, before) in (None, _shape(path, after))


def _shape(path: Path, text: str) -> str | None:
    """Return what may not change; None for what no parser takes, or no parser is known for."""
    try:
        if path.suffix in (".json", ".ipynb"):
            json.loads(text.lstrip("\ufeff"))
            return "JSON"
        if path.suffix in _YAML:
            return f"{len(list(yaml.compose_all(cover(text), Loader=yaml.SafeLoader)))} documents"
        if path.suffix == ".pbtxt":
            return None if parse_text(text, path.name).problems else "a configuration"
    except (ValueError, yaml.YAMLError, RecursionError):
        return None
    return None
