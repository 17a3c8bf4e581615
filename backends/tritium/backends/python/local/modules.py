"""Importing models into the server's own process, apart from each other and from the server's modules.

Each instance's file is a module of its own name, so two instances share nothing by accident. Files beside it are
found as they are in a process of the model's own, and a model gets its own file where another has one of that name.
"""

import importlib.util
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import count
from pathlib import Path
from types import ModuleType

from tritium.backends.python.frames import Load
from tritium.compat.pb_utils.runtime import Runtime, lend, take_back

_MODEL = "tritium_model_"
_numbers = count(1)
_importing = threading.Lock()
_paths: Counter[str] = Counter()
"""Entries of `sys.path` that are models', with how many instances added each: there may be thousands."""


def import_model(load: Load, runtime: Runtime) -> ModuleType:
    """Run a model's file as a module that nothing else has; what it asks of the server goes through `runtime`."""
    name = f"{_MODEL}{next(_numbers)}"
    spec = importlib.util.spec_from_file_location(name, load.model_file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _importing:
        _make_way(load.import_paths)
        sys.modules[name] = module
        lend(name, runtime)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            _forget(name, load.import_paths)
            raise
    return module


def forget_model(module: ModuleType, import_paths: Sequence[str]) -> None:
    """Undo `import_model`: a later load reads the files anew."""
    with _importing:
        _forget(module.__name__, import_paths)


def _make_way(import_paths: Sequence[str]) -> None:
    """Put a model's folders before those of other models, and take modules out that others have found by its names."""
    at = next((index for index, path in enumerate(sys.path) if path in _paths), len(sys.path))
    sys.path[at:at] = import_paths
    own = {entry.stem for path in import_paths for entry in Path(path).iterdir()}
    called_so = [name for name in sys.modules if name.partition(".")[0] in own]
    for name in _modules_in(_paths.keys() - set(import_paths), called_so):
        del sys.modules[name]
    _paths.update(import_paths)


def _forget(name: str, import_paths: Sequence[str]) -> None:
    sys.modules.pop(name, None)
    take_back(name)
    for path in import_paths:
        sys.path.remove(path)
    _paths.subtract(import_paths)
    left = {path for path in import_paths if not _paths[path]}
    for path in left:
        del _paths[path]
    for other in _modules_in(left, sys.modules):
        del sys.modules[other]


def _modules_in(folders: AbstractSet[str], among: Iterable[str]) -> list[str]:
    """Return the modules among these whose files lie in one of the folders, those of models themselves aside."""
    if not folders:
        return []
    prefixes = tuple(f"{folder}{os.sep}" for folder in folders)
    return [
        name
        for name in among
        if not name.startswith(_MODEL) and (getattr(sys.modules[name], "__file__", None) or "").startswith(prefixes)
    ]
