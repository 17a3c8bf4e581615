"""What would stop a language model from being loaded, found without loading it: at start and by `tritium check`.

Left to loading: whether an engine knows the architecture, whether weights and tokenizer are sound, and what has to be
fetched from a hub.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from tritium.cluster.spec import parse_fleet
from tritium.compat.config.finding import Finding
from tritium.compat.config.model import ModelConfig
from tritium.compat.config.problem import Problem, Stage
from tritium.core.errors import InvalidArgument
from tritium.llm.model_files import WEIGHTS, BrokenFile, ModelFiles, find_folder, read_model_files
from tritium.llm.settings import LanguageSettings

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
"""What can be the name of a hub repository: `gpt2`, `openai/whisper-large-v3`."""


def check_version(
    config: ModelConfig, folder: Path, version: str, settings: LanguageSettings | None = None
) -> Sequence[Finding | Problem]:
    """Check the fleet parameter, model.json, and that the model's folder is there; a `repository.loader.Check`."""
    settings = settings or LanguageSettings()
    found: list[Finding | Problem] = []
    if settings.fleet_of(config) == config.parameter("fleet"):
        try:
            parse_fleet(config.parameter("fleet"))
        except InvalidArgument as error:
            found.append(Finding(("parameters", "fleet", "string_value"), error.message, error.hint, Stage.LOAD))
    try:
        files = read_model_files(folder / version)
        find_model(files, settings.engine_of(config))
    except BrokenFile as broken:
        found.append(
            Problem(
                path=str(broken.path),
                line=broken.line,
                column=broken.column,
                length=1,
                message=broken.said,
                hint=broken.hint,
                source_line=broken.source_line,
                stage=Stage.LOAD,
                reason=broken.message,
            )
        )
    return found


def find_model(files: ModelFiles, engine: str) -> Path | None:
    """Return the folder of the model, or nothing where the engine is to fetch it from a hub.

    Raises:
        BrokenFile: model.json names something that is neither here nor can be fetched.
    """
    folder = find_folder(files, files.model, needs=WEIGHTS)
    if folder is None and not (engine == "vllm" and _HUB_NAME.fullmatch(files.model)):
        hint = f"the {engine} engine downloads nothing: put the folder beside model.json"
        if engine == "vllm":
            hint = "put the folder beside model.json, or write the name of a hub repository"
        raise BrokenFile(
            files.path,
            f"names the model '{files.model}', which is no folder in {files.version_folder}, no path, "
            "and not in the Hugging Face cache",
            hint,
        )
    return folder
