"""A model and the tasks it is given, in order; which thread does them is the caller's affair.

    STARTED --Load--> LOADED --Execute ...--> LOADED --Finalize--> ENDED
       |
       +--error: Loaded(error)--> ENDED

What it says goes through the link, and is heard at the next flush of its pump.
"""

import json
from collections.abc import Callable
from typing import Any

from tritium.backends.python import frames
from tritium.backends.python.process.blame import describe
from tritium.backends.python.process.execution import Executor, Misuse
from tritium.backends.python.process.link import Link
from tritium.compat import pb_utils

_MODEL_CLASS = "TritonPythonModel"


class Host:
    """One model instance; `importing` gives the module of a Load, `begun` is told the number of each execution."""

    def __init__(self, link: Link, importing: Callable[[frames.Load], Any], begun: Callable[[int], None]) -> None:
        self._link = link
        self._importing = importing
        self._begun = begun
        self._model: Any = None
        self._executor: Executor | None = None

    def serve(self, task: frames.Task) -> bool:
        """Do one task, and tell whether there can be another; what it says is left for the next flush."""
        match task:
            case frames.Execute():
                assert self._executor is not None
                self._begun(task.number)
                self._link.busy = True
                self._link.pump.add(self._executor.run(task))
                self._link.busy = False
            case frames.Load():
                self._link.pump.add(self._load(task))
                return self._executor is not None
            case frames.AskReady():
                self._link.pump.add(self._ask_ready())
            case frames.Finalize():
                self._finalize()
                return False
        return True

    def _load(self, load: frames.Load) -> frames.Loaded:
        """Import and initialize, and say how it went."""
        self._link.model_folder = load.model_folder
        self._link.decoupled = load.decoupled
        self._link.output_types = load.outputs
        self._link.output_names = frozenset(load.outputs)
        try:
            model_class = _class_of(self._importing(load), load)
            if load.complete:
                return frames.Loaded(config=_complete(model_class, load.arguments))
            self._model = model_class()
            if hasattr(self._model, "initialize"):
                self._model.initialize(load.arguments)
        except Misuse as misuse:
            return frames.Loaded(error=str(misuse), code=misuse.code)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever the model raises is the answer
            return frames.Loaded(error=describe(error))
        self._executor = Executor(self._model, load.arguments["model_instance_name"], self._link)
        return frames.Loaded(asks_ready=hasattr(self._model, "is_ready"))

    def _ask_ready(self) -> frames.ReadyAnswer:
        assert self._executor is not None
        try:
            return frames.ReadyAnswer(self._executor.call_ready())
        except Misuse as misuse:
            return frames.ReadyAnswer(ready=False, error=str(misuse))
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
        self._link.pump.add(frames.Finalized())


def _class_of(module: Any, load: frames.Load) -> Any:
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
