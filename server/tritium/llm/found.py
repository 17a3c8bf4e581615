"""Models by backend "vllm" of which some are served elsewhere: those that a front laid out from their cards."""

from collections.abc import Sequence
from pathlib import Path

from tritium.backends.contract import ModelSource
from tritium.compat.config.finding import Finding
from tritium.compat.config.model import ModelConfig
from tritium.compat.config.problem import Problem
from tritium.llm.loader import LanguageLoader
from tritium.llm.model import LanguageModel


class FoundLoader:
    """A repository.loader.Loader that leaves models below `home` to `found`, and all others to `local`."""

    def __init__(self, local: LanguageLoader, found: LanguageLoader, home: Path) -> None:
        self._local = local
        self._found = found
        self._home = home

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:
        """Fill in the tensors of the model's surface; raises as `LanguageLoader.complete` does."""
        return await self._of(folder).complete(config, folder, version)

    def check(self, config: ModelConfig, folder: Path, version: str) -> Sequence[Finding | Problem]:
        """Find what would make a load fail, by the files alone."""
        return self._of(folder).check(config, folder, version)

    async def load(self, source: ModelSource) -> LanguageModel:
        """Load one version; raises as `LanguageLoader.load` does."""
        return await self._of(source.folder).load(source)

    def _of(self, folder: Path) -> LanguageLoader:
        return self._found if folder.is_relative_to(self._home) else self._local
