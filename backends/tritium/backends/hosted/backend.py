"""The server's side of a backend whose library runs in processes: it opens instances, and asks one to complete."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.python.instance import PythonInstance
from tritium.backends.python.process_worker import ProcessWorker
from tritium.backends.python.starter import Starter, load_message
from tritium.backends.python.worker import Timeouts
from tritium.compat.config.json import from_json
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.core.errors import InvalidArgument, ModelFailed, Unavailable


async def open_hosted(source: ModelSource, place: InstancePlace, host: BackendHost, runtime: str) -> PythonInstance:
    """Start a process that runs the class of the module `runtime`, and load the model into it.

    Raises:
        InferenceError: the model cannot be loaded.
    """
    instance = PythonInstance(Starter(source, place, host, Timeouts(), runtime))
    await instance.open()
    return instance


async def complete_hosted(config: ModelConfig, folder: Path, version: str, runtime: str) -> ModelConfig:
    """Let the class of the module `runtime` complete a configuration, in a process for just that.

    Raises:
        InferenceError: the model cannot be read, or contradicts its configuration.
    """
    place = InstancePlace(f"{config.name}_0")
    message = load_message(ModelSource(config, folder, version), place, complete=True, runtime=runtime)
    try:
        worker = ProcessWorker(config.name, sys.executable, lambda _: None, lambda _: None)
    except OSError as error:
        raise ModelFailed(f"cannot start a process to complete model '{config.name}': {error}") from None
    try:
        loaded = await worker.load(message, Timeouts())
    finally:
        await worker.kill()
    return from_proto(from_json(loaded.config))


def model_path(config: ModelConfig, folder: Path, version: str, *usual: str) -> Path:
    """Return the path of the model's file: the one that the configuration names, else the first usual one there is.

    Raises:
        Unavailable: there is no such file.
    """
    names = (config.proto.default_model_filename,) if config.proto.default_model_filename else usual
    for name in names:
        if (path := folder / version / name).exists():
            return path
    path = folder / version / names[0]
    raise Unavailable(
        f"unable to find '{path}' for model instance '{config.name}'",
        hint=f"put the model there, or name it in default_model_filename of {folder / 'config.pbtxt'}",
    )


def need(package: str, extra: str) -> None:
    """Look whether a package is installed, without importing it.

    Raises:
        Unavailable: it is not.
    """
    if importlib.util.find_spec(package) is None:
        raise Unavailable(
            f"this backend needs the package {package}, which is not installed",
            hint=f"{sys.executable} -m pip install 'tritium[{extra}]'",
        )


def setting_number(settings: Mapping[str, str], name: str, default: int) -> int:
    """Read a number of --backend-config.

    Raises:
        InvalidArgument: it is none, in Triton's words.
    """
    text = settings.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(
            f"failed to convert '{text}' to integral number", hint=f"--backend-config=BACKEND,{name}={text}"
        ) from None
