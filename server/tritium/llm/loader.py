"""Loads the models of backend "vllm": a version folder becomes a tokenizer, a fleet of workers, and their facade.

model.json -> engine -> model folder -> tokenizer, template, defaults -> fleet -> LanguageModel
`--------------------- prepare ----------------------------------'
"""

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tritium.backends.contract import ModelSource
from tritium.backends.engine import LORA_MODULES
from tritium.cluster.fleet import Fleet
from tritium.compat.config.finding import Finding
from tritium.compat.config.model import ModelConfig
from tritium.compat.config.problem import Problem
from tritium.llm.checking import check_version, find_model
from tritium.llm.facade.alias import PARAMETER as ALIASES
from tritium.llm.facade.alias import alias_of, own_surface, read_aliases
from tritium.llm.model import LanguageModel, ModelDefaults
from tritium.llm.model_files import (
    ModelFiles,
    ReadFiles,
    class_labels,
    find_folder,
    longest_answer,
    read_model_files,
    sampling_defaults,
)
from tritium.llm.reading.choose import prepare
from tritium.llm.reading.configured import named_parsers, take_formats
from tritium.llm.settings import LanguageSettings, engine_arguments
from tritium.llm.sources import ModelSources
from tritium.llm.tokenizer import Tokenizer
from tritium.repository.cloud.address import is_cloud


class StartFleet(Protocol):
    """Starts the workers of one model and returns when all are ready.

    Raises:
        InferenceError: the fleet setting is wrong, or a worker could not load the model; none is left running.
    """

    async def __call__(
        self, fleet: str, *, name: str, engine: str, folder: Path, arguments: Mapping[str, Any]
    ) -> Fleet:
        """Start them; `fleet` is the setting as text, empty for one worker."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version that is ready to be given workers: which engine runs it, from where, with which arguments."""

    engine: str
    folder: Path
    arguments: dict[str, Any]
    files: ModelFiles
    tokenizer: Tokenizer
    tokenizer_folder: Path
    defaults: ModelDefaults
    aliases: Mapping[str, str]


class LanguageLoader:
    """A repository.loader.Loader of language models; `read` reads the files of a version folder.

    Where the `weights` are elsewhere, with workers that are there already, a model's other files are enough.
    """

    def __init__(
        self,
        settings: LanguageSettings,
        start_fleet: StartFleet,
        read: ReadFiles = read_model_files,
        *,
        weights: bool = True,
    ) -> None:
        self._settings = settings
        self._start_fleet = start_fleet
        self._read = read
        self._weights = weights
        self._sources = ModelSources(settings.cloud_cache)

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:
        """Fill in the tensors of the model's surface: vllm_backend's, as its auto_complete_config does, or another's.

        Raises:
            InvalidArgument: model.json is missing or broken, or there is no such surface.
        """
        await asyncio.to_thread(self._read, folder / version)
        return own_surface(config).complete(config)

    def check(self, config: ModelConfig, folder: Path, version: str) -> Sequence[Finding | Problem]:
        """Find what would make a load fail, by the files alone."""
        return check_version(config, folder, version, self._settings, self._read) if self._weights else ()

    async def load(self, source: ModelSource) -> LanguageModel:
        """Load one version: its tokenizer here, its weights in the workers.

        Raises:
            InferenceError: a file is missing or broken, or no engine runs the model.
        """
        prepared = await self.prepare(source)
        fleet = await self._start_fleet(
            self._settings.fleet_of(source.config),
            name=source.config.name,
            engine=prepared.engine,
            folder=prepared.folder,
            arguments=prepared.arguments,
        )
        surface = own_surface(source.config)
        model = LanguageModel(source.config, source.version, fleet, prepared.tokenizer, prepared.defaults, surface)
        model.aliases = [alias_of(model, name, surface) for name, surface in prepared.aliases.items()]
        return model

    async def prepare(self, source: ModelSource) -> Prepared:
        """Read everything that a version's workers and its front need, and start nothing.

        Raises:
            InferenceError: a file is missing or broken, or no engine runs the model.
        """
        files = await asyncio.to_thread(self._read, source.version_folder)
        files = dataclasses.replace(files, arguments={**files.arguments, **engine_arguments(source.config)})
        engine = self._settings.engine_of(source.config)
        parts = await asyncio.to_thread(self._read_parts, files, engine, source.config.name)
        arguments = files.engine_arguments
        aliases = read_aliases(source.config, arguments.pop(ALIASES, None))
        named = named_parsers(source.config, arguments, self._settings.parsers_of(source.config))
        formats = take_formats(named, arguments, parts.tokenizer.templates.source, engine)
        await asyncio.to_thread(prepare, formats, parts.tokenizer)
        if files.loras:
            arguments[LORA_MODULES] = dict(files.loras)
        defaults = dataclasses.replace(parts.defaults, formats=formats)
        return Prepared(
            engine, parts.folder, arguments, files, parts.tokenizer, parts.tokenizer_folder, defaults, aliases
        )

    def _read_parts(self, files: ModelFiles, engine: str, name: str) -> "_Parts":
        folder = self._model_folder(files, engine)
        wanted = str(files.arguments.get("tokenizer") or "")
        tokenizer_folder = self._sources.tokenizer_folder(files, wanted or str(folder or files.model))
        home = folder or tokenizer_folder
        defaults = ModelDefaults(
            sampling_defaults(home, files.arguments),
            files.loras,
            labels=class_labels(home),
            most_tokens=longest_answer(home, files.arguments),
            timeout_s=self._settings.timeout_s,
        )
        tokenizer = Tokenizer.load(
            tokenizer_folder,
            self._settings.chat_templates.get(name) or files.chat_template,
            trust_request_templates=self._settings.trust_request_chat_template,
        )
        # vLLM itself fetches weights that are only a hub name.
        return _Parts(folder or Path(files.model), tokenizer, tokenizer_folder, defaults)

    def _model_folder(self, files: ModelFiles, engine: str) -> Path | None:
        if is_cloud(files.model):
            return self._sources.from_store(files.model)
        return find_model(files, engine) if self._weights else find_folder(files, files.model, needs="*")


@dataclass(frozen=True, slots=True)
class _Parts:
    folder: Path
    tokenizer: Tokenizer
    tokenizer_folder: Path
    defaults: ModelDefaults
