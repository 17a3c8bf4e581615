"""Backends written in Python: folders of a backend directory, whose model.py serves every model that names them."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

from tritium.backends.contract import BackendHost
from tritium.backends.python.backend import PythonBackend
from tritium.core.facilities import NO_FACILITIES, Facilities
from tritium.repository.tensor_loader import TensorLoader


def written_backends(
    directory: Path,
    host: Callable[[], BackendHost],
    settings: Mapping[str, Mapping[str, str]],
    facilities: Facilities = NO_FACILITIES,
    taken: Collection[str] = (),
) -> dict[str, TensorLoader]:
    """Return a loader for every folder of `directory` that holds a model.py, those of names that are `taken` aside.

    `host` and `facilities` are as in `tensor_loaders`. Settings are the backend's own over those of the python backend,
    for its processes are that one's.
    """
    if not directory.is_dir():
        return {}

    def host_of(name: str) -> BackendHost:
        named = (settings.get(owner, {}) for owner in ("", "python", name))
        merged = {key: value for pairs in named for key, value in pairs.items()}
        return dataclasses.replace(host(), settings=merged)

    return {
        folder.name: TensorLoader(partial(PythonBackend, folder), partial(host_of, folder.name), facilities)
        for folder in sorted(directory.iterdir())
        if folder.name not in taken and (folder / "model.py").is_file()
    }
