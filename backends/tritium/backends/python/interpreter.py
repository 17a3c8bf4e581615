"""Which interpreter runs a model, and the command line of its process.

EXECUTION_ENV_PATH names another one: a folder with `bin/python`, as `python -m venv` or conda make it, or the archive
of one that conda-pack made.
"""

import asyncio
import os
import sys
from pathlib import Path

import tritium.compat
from tritium.backends.contract import ModelSource
from tritium.backends.python.environments import unpacked
from tritium.core.errors import InvalidArgument

ENVIRONMENT_PARAMETER = "EXECUTION_ENV_PATH"
MODEL_DIRECTORY = "$$TRITON_MODEL_DIRECTORY"

_OURS = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
_ENTRY = Path(__file__).parent / "process" / "__main__.py"
_PORTIONS = (str(Path(__file__).parents[2]), str(Path(tritium.compat.__path__[0]).parent))
"""The folders named `tritium` that hold the backends and compat; one and the same when installed from a wheel."""


async def interpreter_of(source: ModelSource) -> str:
    """Return the path of the interpreter that the model asks for, ours where it asks for none.

    Raises:
        InvalidArgument: the environment is missing, cannot be unpacked, or holds no interpreter.
    """
    wanted = source.config.parameter(ENVIRONMENT_PARAMETER)
    if not wanted:
        return sys.executable
    folder = source.folder.absolute()
    path = folder / wanted.replace(MODEL_DIRECTORY, str(folder))
    said = f"{ENVIRONMENT_PARAMETER} '{wanted}' of model '{source.config.name}'"
    if not path.exists():
        raise InvalidArgument(f"{said} does not exist: {path}")
    if path.is_file():
        path = await asyncio.to_thread(unpacked, path, said)
    python = path / "bin" / "python"
    if not os.access(python, os.X_OK):
        raise InvalidArgument(f"{said} holds no interpreter: {python} is not there, or cannot be executed")
    return str(python)


def command(name: str, interpreter: str, descriptors: tuple[int, int, int]) -> list[str]:
    """Return the command of a model's process; the descriptors are those it inherits.

    The third word is for those who read `ps`, and for scripts that look for Triton's processes by their name.
    """
    return [
        interpreter,
        str(_ENTRY),
        f"triton_python_backend_stub:{name}",
        str(os.getpid()),
        *map(str, descriptors),
        *_PORTIONS,
    ]


def environment(interpreter: str) -> dict[str, str] | None:
    """Return the variables for another interpreter than ours, None where ours runs: the server's own."""
    if interpreter == sys.executable:
        return None
    inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
    return inherited | {"PATH": f"{Path(interpreter).parent}:{os.environ.get('PATH', os.defpath)}"}
