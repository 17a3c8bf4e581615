"""What would stop a language model from being loaded, found without loading it: at start and by `tritium check`.

Left to loading: whether an engine knows the architecture, whether weights and tokenizer are sound, and what has to be
fetched from a hub.
"""

import importlib.util
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from tritium.cluster.spec import parse_fleet
from tritium.compat.config.finding import Finding
from tritium.compat.config.model import ModelConfig
from tritium.compat.config.problem import Problem, Stage, problem_of
from tritium.core.errors import InvalidArgument
from tritium.llm.facade.alias import PARAMETER as ALIASES
from tritium.llm.facade.alias import check_aliases
from tritium.llm.model_files import WEIGHTS, BrokenFile, ModelFiles, ReadFiles, find_folder, read_model_files
from tritium.llm.reading.choose import formats_of
from tritium.llm.reading.configured import REASONING_PARSER, TOOL_PARSER, named_parsers
from tritium.llm.settings import LanguageSettings
from tritium.llm.sources import offline
from tritium.llm.template_files import read_templates
from tritium.repository.cloud.address import is_cloud

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
"""What can be the name of a hub repository: `gpt2`, `openai/whisper-large-v3`."""

_WITH_VLLM = "make serve ENGINE=vllm"

_FETCHING = frozenset({"vllm", "sglang", "tensorrtllm"})
"""Engines that fetch a model from a hub themselves."""

_LOCAL = ("/", "./", "../")
"""How a name begins that can only be a path."""


def check_version(
    config: ModelConfig,
    folder: Path,
    version: str,
    settings: LanguageSettings | None = None,
    read: ReadFiles = read_model_files,
) -> Sequence[Finding | Problem]:
    """Check engine, fleet, model.json, and that the model's folder is there; a `repository.loader.Check`."""
    settings = settings or LanguageSettings()
    found: list[Finding | Problem] = []
    if settings.fleet_of(config) == config.parameter("fleet"):
        try:
            parse_fleet(config.parameter("fleet"))
        except InvalidArgument as error:
            found.append(Finding(("parameters", "fleet", "string_value"), error.message, error.hint, Stage.LOAD))
    if settings.engine_of(config) == "vllm" and importlib.util.find_spec("vllm") is None:
        message = "the engine vllm needs the package vllm, which is not installed"
        hint = f"{_WITH_VLLM} installs it, --engine embedded does without"
        found.append(problem_of(str(folder), message, hint, Stage.LOAD))
    try:
        files = read(folder / version)
        found += _check_parsers(config, files, settings)
        found += check_aliases(config, files.arguments.get(ALIASES), folder)
        found += _check_templates(config, files, settings)
        absent = find_model(files, settings.engine_of(config)) is None
        if absent and _HUB_NAME.fullmatch(files.model) and not find_folder(files, files.model, needs="*"):
            message = f"the model '{files.model}' is not on this machine; it is fetched from the Hugging Face hub"
            found.append(problem_of(str(files.path), message, _beside(files), Stage.WARNING))
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


def _check_parsers(config: ModelConfig, files: ModelFiles, settings: LanguageSettings) -> list[Finding | Problem]:
    """Find parsers of tool calls and reasoning that there are not."""
    named = named_parsers(config, files.arguments, settings.parsers_of(config))
    try:
        formats_of(named[TOOL_PARSER], named[REASONING_PARSER], "")
    except InvalidArgument as error:
        in_file = not any(config.parameter(field) for field in (TOOL_PARSER, REASONING_PARSER))
        path = files.path if in_file else files.version_folder.parent / "config.pbtxt"
        return [problem_of(str(path), error.message, error.hint, Stage.LOAD)]
    return []


def _check_templates(config: ModelConfig, files: ModelFiles, settings: LanguageSettings) -> list[Problem]:
    """Find chat templates that do not parse, or are not where they should be."""
    folder = find_folder(files, str(files.arguments.get("tokenizer") or files.model), needs="*")
    if folder is None:
        return []
    try:
        read_templates(folder, settings.chat_templates.get(config.name) or files.chat_template)
    except BrokenFile:
        raise
    except InvalidArgument as error:
        return [problem_of(str(files.path), error.message, error.hint, Stage.LOAD)]
    return []


def find_model(files: ModelFiles, engine: str) -> Path | None:
    """Return the folder of the model, or nothing where it is to be fetched from a hub or an object store.

    Raises:
        BrokenFile: model.json names something that is neither here nor can be fetched.
    """
    if is_cloud(files.model):
        return None
    folder = find_folder(files, files.model, needs=WEIGHTS)
    if folder is None and not (engine in _FETCHING and _engine_may_find(files)):
        otherwise = (
            f"the {engine} engine downloads nothing: put the folder beside model.json, or run it with {_WITH_VLLM}"
        )
        if engine in _FETCHING:
            otherwise = "put the folder beside model.json, or write the name of a hub repository"
        raise BrokenFile(
            files.path,
            f"names the model '{files.model}', which is no folder in {files.version_folder}, no path, "
            "and not in the Hugging Face cache",
            _beside(files) or otherwise,
        )
    return folder


def _engine_may_find(files: ModelFiles) -> bool:
    """Tell whether the engine could have the model from elsewhere: a file, a hub, a store that it streams from."""
    if Path(files.model).exists() or find_folder(files, files.model, needs="*"):
        return True
    return not files.model.startswith(_LOCAL) and not (offline() and _HUB_NAME.fullmatch(files.model))


def _beside(files: ModelFiles) -> str:
    """Ask for the folder beside model.json that may have been meant."""
    folders = [entry.name for entry in files.version_folder.iterdir() if entry.is_dir()]
    near = get_close_matches(files.model, folders, n=1)
    return f"did you mean {near[0]}?" if near else ""
