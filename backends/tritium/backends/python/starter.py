"""How the process of one instance is started, the first time and every time it was lost."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.python import frames
from tritium.backends.python.calls import Calls
from tritium.backends.python.interpreter import interpreter_of
from tritium.backends.python.local.worker import LocalWorker
from tritium.backends.python.mode import ExecutionMode, execution_mode
from tritium.backends.python.process_worker import ProcessWorker
from tritium.backends.python.worker import Timeouts, Worker
from tritium.compat.config.json import to_json
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument, ModelFailed
from tritium.core.implicit_state import outputs_made
from tritium.core.waits import Caller

_numbers = count(1)

OnMessage = Callable[[Worker, frames.Up], None]
OnLost = Callable[[Worker, str], None]
MODEL_FILE = "model.py"
RETRY_PARAMETER = "RETRY_LOST_EXECUTIONS"
_INVALID_CHARACTERS = frozenset(";|&$`<>()[]{}\\\"'*?~#!")
_OF_EXECUTIONS = (frames.Executed, frames.Sent, frames.ReadyAnswer)


def timeouts_of(settings: Mapping[str, str]) -> Timeouts:
    """Read --backend-config=python,stub-timeout-seconds=N and initialize-timeout-seconds=N.

    Raises:
        InvalidArgument: not a number of seconds.
    """
    found = {}
    for setting, name in (("stub-timeout-seconds", "start_s"), ("initialize-timeout-seconds", "initialize_s")):
        if setting not in settings:
            continue
        try:
            found[name] = float(settings[setting])
        except ValueError:
            found[name] = 0.0
        if not found[name] > 0:
            raise InvalidArgument(
                f"--backend-config=python,{setting}={settings[setting]} is not a number of seconds",
                hint=f"for example {setting}=60",
            )
    return Timeouts(**found)


def retries_of(config: ModelConfig) -> int:
    """Read the parameter RETRY_LOST_EXECUTIONS.

    Raises:
        InvalidArgument: not a count, or the model is decoupled: what it has sent cannot be taken back.
    """
    text = config.parameter(RETRY_PARAMETER, "0")
    if not text.isdecimal():
        raise InvalidArgument(
            f"{RETRY_PARAMETER} '{text}' of model '{config.name}' is not a count", hint="0, 1, 2, ..."
        )
    if config.decoupled and int(text):
        raise InvalidArgument(
            f"{RETRY_PARAMETER} '{text}' of model '{config.name}' cannot be: what a decoupled model has sent cannot "
            "be taken back"
        )
    return int(text)


@dataclass(frozen=True, slots=True)
class Starter:
    """Everything a start needs."""

    source: ModelSource
    place: InstancePlace
    host: BackendHost
    timeouts: Timeouts
    runtime: str = ""
    """The module of ours whose class runs the model, where the model's file is not itself Python."""
    deadline_s: float = 0.0
    """How long an execution may take; 0 is for ever."""
    retries: int = 0
    """How often an execution is run again whose process died under it."""
    folder: Path | None = None
    """Of a backend written in Python, whose model.py serves every model of it."""
    owner: str = field(default_factory=lambda: f"starter {next(_numbers)}")
    """Whose the model's metrics are. Not the instance's name: a reload has two of that name for a while."""

    @property
    def model_name(self) -> str:
        """Return the model's name."""
        return self.source.config.name

    @property
    def version(self) -> str:
        """Return the version that is served."""
        return self.source.version

    @property
    def decoupled(self) -> bool:
        """Tell whether the model is decoupled."""
        return self.source.config.decoupled

    @property
    def alone(self) -> bool:
        """Tell whether the model has no other instance than this one."""
        groups = self.source.config.proto.instance_group
        instances: int = sum(group.count * max(1, len(group.gpus)) for group in groups)
        return instances <= 1

    async def start(self, on_message: OnMessage, on_lost: OnLost, caller: Caller) -> Worker:
        """Start a process of the instance `caller` and load the model into it.

        The callbacks get messages and the loss of the process.

        Raises:
            InferenceError: the model cannot be loaded.
        """
        calls = Calls(caller, self.owner, self.host)

        def take(message: frames.Up) -> None:
            if type(message) is frames.Executed or isinstance(message, _OF_EXECUTIONS):
                on_message(worker, message)
            else:
                calls.take(worker, message)

        def lost(said: str) -> None:
            calls.abandon()
            on_lost(worker, said)

        load = load_message(self.source, self.place, runtime=self.runtime, backend=self.folder)
        worker = await self._worker(take, lost)
        await worker.load(load, self.timeouts)
        return worker

    async def _worker(self, take: Callable[[frames.Up], None], lost: Callable[[str], None]) -> Worker:
        mode = ExecutionMode.PROCESS if self.runtime else execution_mode(self.source.config)
        if mode is not ExecutionMode.PROCESS:
            return LocalWorker(self.place.name, take, lost, inline=mode is ExecutionMode.INLINE)
        interpreter = await interpreter_of(self.source)
        try:
            return ProcessWorker(self.place.name, interpreter, take, lost)
        except OSError as error:
            raise ModelFailed(f"cannot start the process of model instance '{self.place.name}': {error}") from None

    def forget(self) -> None:
        """Drop what the model leaves with the server: its metrics."""
        self.host.metrics.disown(self.owner)


def load_message(
    source: ModelSource,
    place: InstancePlace,
    *,
    complete: bool = False,
    runtime: str = "",
    backend: Path | None = None,
) -> frames.Load:
    """Make the message that loads a model, with Triton's arguments of `initialize`.

    `runtime` and `backend` are as in Starter, where its `folder` is the backend.

    Raises:
        InvalidArgument: the instance's name has characters that Triton refuses.
        ModelFailed: there is no such file, or it is none of Python's.
    """
    if not _INVALID_CHARACTERS.isdisjoint(place.name):
        raise InvalidArgument("Invalid stub name: contains invalid characters", hint=f"rename '{place.name}'")
    config = source.config
    folder = os.fspath(source.folder)
    if backend is not None:
        file, name, paths = backend / MODEL_FILE, "model", [os.fspath(backend)]
    else:
        file = source.version_folder / (config.proto.default_model_filename or MODEL_FILE)
        name, paths = f"{source.version}.{file.stem}", [os.fspath(source.version_folder), folder]
    if runtime:
        name, paths = runtime, []
    elif file.suffix != ".py":
        raise ModelFailed(f"Model name must end with '.py'. Model name is \"{file.name}\".")
    elif not file.is_file():
        raise ModelFailed(
            f"Python model file not found in '{file}'",
            hint=f"put {file.name} there, with a class TritonPythonModel",
        )
    return frames.Load(
        model_folder=os.fspath(source.version_folder),
        model_file=os.fspath(file),
        import_name=name,
        import_paths=paths,
        arguments={
            "model_config": to_json(config.proto).decode(),
            "model_instance_kind": place.kind,
            "model_instance_name": place.name,
            "model_instance_device_id": str(place.device),
            "model_repository": folder,
            "model_version": source.version,
            "model_name": config.name,
        },
        outputs=outputs_made(config),
        decoupled=config.decoupled,
        complete=complete,
    )
