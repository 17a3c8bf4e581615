"""The door of the python backend: completes configurations and opens instances, each in a process."""

import ast
from pathlib import Path

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.python.instance import PythonInstance
from tritium.backends.python.interpreter import interpreter_of
from tritium.backends.python.process_worker import ProcessWorker
from tritium.backends.python.starter import Starter, load_message, retries_of, timeouts_of
from tritium.backends.python.watchdog import PARAMETER, deadline_of
from tritium.backends.python.worker import Timeouts
from tritium.compat.config.json import BadConfigJson, from_json
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.core.errors import ModelFailed

_HOOK = "auto_complete_config"


class PythonBackend:
    """Runs `model.py` files; see `tritium.backends.contract.TensorBackend`.

    With a `folder` it is a backend written in Python, of the folder's name: the folder's model.py serves its models.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.name = folder.name if folder is not None else "python"
        self._folder = folder

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:
        """Run the model's `auto_complete_config`, if it has one, in a process of its own.

        Raises:
            InferenceError: there is no model.py, or it raised, in Triton's words.
        """
        source = ModelSource(config, folder, version)
        message = load_message(source, InstancePlace(f"{config.name}_0"), complete=True, backend=self._folder)
        if not _may_complete(Path(message.model_file)):
            return config
        interpreter = await interpreter_of(source)
        try:
            worker = ProcessWorker(config.name, interpreter, lambda _: None, lambda _: None)
        except OSError as error:
            raise ModelFailed(f"cannot start a process to complete model '{config.name}': {error}") from None
        try:
            loaded = await worker.load(message, Timeouts())
        finally:
            await worker.kill()
        try:
            return from_proto(from_json(loaded.config))
        except BadConfigJson as error:
            raise ModelFailed(
                f"{_HOOK} of model '{config.name}' made a configuration that cannot be: {error}"
            ) from None

    async def open(self, source: ModelSource, place: InstancePlace, host: BackendHost) -> PythonInstance:
        """Start a process and load the model into it.

        Raises:
            InferenceError: in Triton's words where the model raised.
        """
        config = source.config
        starter = Starter(
            source,
            place,
            host,
            timeouts_of(host.settings),
            deadline_s=deadline_of(config.parameter(PARAMETER), host.settings),
            retries=retries_of(config),
            folder=self._folder,
        )
        instance = PythonInstance(starter)
        await instance.open()
        return instance


def _may_complete(file: Path) -> bool:
    """Tell whether a model could have the hook, without running it: a process for each would slow every start.

    A class without bases, in a file that does not mention the hook, has none. A file that cannot be parsed is left
    to the process, whose words for it are Triton's.
    """
    text = file.read_text(errors="replace")
    if _HOOK in text:
        return True
    try:
        classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    except (SyntaxError, ValueError):
        return True
    own = [node for node in classes if node.name == "TritonPythonModel"]
    return not own or any(node.bases or node.keywords or node.decorator_list for node in own)
