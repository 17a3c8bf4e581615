"""The main thread of a model's process: load the model, then execute what comes, in order.

    STARTED --Load--> LOADED --Execute ...--> LOADED --Finalize--> ENDED
       |
       +--error: Loaded(error)--> ENDED

The server sees the end of the process; what it says before that is all that counts.
"""

import json
import os
import socket
import sys
from typing import Any

from tritium.backends.python import frames
from tritium.backends.python.arena import InArena, OutArena
from tritium.backends.python.process.blame import describe
from tritium.backends.python.process.execution import Executor, Misuse
from tritium.backends.python.process.link import Link
from tritium.backends.python.process.pump import Pump
from tritium.backends.python.process.tensors import TensorCodec
from tritium.compat import pb_utils

_MODEL_CLASS = "TritonPythonModel"


class Host:
    """One model instance and its way to the server."""

    def __init__(self, sock: socket.socket, inbound: int, outbound: int) -> None:
        self._pump = Pump(sock, self._take, self._extras)
        self._inbound = InArena(inbound, self._pump.flush)
        self._outbound = OutArena(outbound, lambda offset, size: self._pump.add(frames.Grown(offset, size)))
        self._codec = TensorCodec(self._inbound, self._outbound)
        self._link = Link(self._pump, self._codec)
        self._model: Any = None
        self._executor: Executor | None = None

    def run(self) -> None:
        """Serve until told to finalize."""
        pb_utils.install()
        pb_utils.bind(self._link)
        self._pump.post(frames.Started())
        try:
            while self._serve(self._pump.next()):
                # At once, although sharing a frame would be cheaper: what is finished neither waits for the next
                # execution nor is lost with it.
                self._pump.flush()
        except BaseException:  # noqa: BLE001  # sys.exit or the like: as sudden for the server as a crash
            self._pump.flush()
            sys.excepthook(*sys.exc_info())
            sys.stdout.flush()
            sys.stderr.flush()
            # No thread of the model may keep a process alive that nobody serves.
            os._exit(1)

    def _serve(self, task: frames.Load | frames.Execute | frames.AskReady | frames.Finalize) -> bool:
        match task:
            case frames.Execute():
                assert self._executor is not None
                frames.BEGUN.pack_into(self._outbound.control, 0, task.number)
                self._link.busy = True
                self._pump.add(self._executor.run(task))
                self._link.busy = False
            case frames.Load():
                loaded = self._load(task)
                self._pump.post(loaded)
                return self._executor is not None
            case frames.AskReady():
                self._pump.post(self._ask_ready())
            case frames.Finalize():
                self._finalize()
                return False
        return True

    def _load(self, load: frames.Load) -> frames.Loaded:
        """Import and initialize, and say how it went."""
        self._link.model_folder = os.path.dirname(load.model_file)  # noqa: PTH120  # pathlib costs the start 5 ms
        self._link.decoupled = load.decoupled
        self._link.output_types = load.outputs
        self._link.output_names = frozenset(load.outputs)
        sys.path += [*load.import_paths, pb_utils.IMPORTABLE]
        try:
            model_class = _import_class(load)
            if load.complete:
                return frames.Loaded(config=_complete(model_class, load.arguments))
            self._model = model_class()
            if hasattr(self._model, "initialize"):
                self._model.initialize(load.arguments)
        except Misuse as error:
            return frames.Loaded(error=str(error), code=error.code)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever the model raises is the answer
            return frames.Loaded(error=describe(error))
        self._executor = Executor(self._model, load.arguments["model_instance_name"], self._link, self._codec)
        return frames.Loaded(asks_ready=hasattr(self._model, "is_ready"))

    def _ask_ready(self) -> frames.ReadyAnswer:
        assert self._executor is not None
        try:
            return frames.ReadyAnswer(self._executor.call_ready())
        except Misuse as error:
            return frames.ReadyAnswer(ready=False, error=str(error))
        except Exception as error:  # noqa: BLE001  # whatever the model raises is the answer
            return frames.ReadyAnswer(ready=False, error=describe(error))

    def _finalize(self) -> None:
        assert self._executor is not None
        self._executor.stop()
        if hasattr(self._model, "finalize"):
            try:
                self._model.finalize()
            except Exception as error:  # noqa: BLE001  # too late to be anyone's answer
                self._link.log("error", f"finalize failed: {describe(error)}")
        self._pump.post(frames.Finalized())

    def _take(self, message: frames.Answer | frames.Outcome | frames.Cancel | frames.Grown | frames.Freed) -> None:
        match message:
            case frames.Grown(offset, size):
                self._inbound.grow(offset, size)
            case frames.Freed(starts):
                self._outbound.give_back(starts)
            case _:
                self._link.take(message)

    def _extras(self) -> list[frames.Up]:
        freed = self._inbound.take_freed()
        return [frames.Freed(freed)] if freed else []


def _import_class(load: frames.Load) -> Any:
    module = __import__(load.import_name, fromlist=[_MODEL_CLASS])
    if not hasattr(module, _MODEL_CLASS):
        raise Misuse(
            f"AttributeError: module '{load.import_name}' has no attribute '{_MODEL_CLASS}'\n\n"
            f"Write class {_MODEL_CLASS}: with def execute(self, requests) in {load.model_file}"
        )
    return getattr(module, _MODEL_CLASS)


def _complete(model_class: Any, arguments: dict[str, str]) -> str:
    config: Any = pb_utils.ModelConfig(arguments["model_config"])
    if hasattr(model_class, "auto_complete_config"):
        config = model_class.auto_complete_config(config)
    if not isinstance(config, pb_utils.ModelConfig):
        raise Misuse(
            f"auto_complete_config function in model '{arguments['model_name']}' "
            "must return a valid pb.ModelConfig object."
        )
    return json.dumps(config.as_dict())
