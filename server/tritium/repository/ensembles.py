"""Loading ensembles: they fit their members as these are loaded, and find them anew for every request."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from tritium.backends.contract import ModelSource
from tritium.compat.config import messages
from tritium.compat.config.ensemble import check_members
from tritium.compat.config.model import ModelConfig
from tritium.core.cache.cached_model import with_cache
from tritium.core.cache.store import Store
from tritium.core.ensemble import EnsembleModel
from tritium.core.errors import InvalidArgument
from tritium.core.model import Model
from tritium.repository.candidate import Candidate
from tritium.repository.shelf import Shelf

log = structlog.get_logger("tritium")

MOST_NESTED: Final = 64
"""Ensembles within one another. An answer is handed up through all of them at once."""


class EnsembleLoader:
    """Makes ensembles of models that are looked up by `resolve(name, version)` when a request runs."""

    def __init__(self, resolve: Callable[[str, str], Model], store: Store | None = None) -> None:
        self._resolve = resolve
        self._store = store

    def linked(self, links: Mapping[str, str]) -> "EnsembleLoader":
        """Return a loader whose ensembles find, in the place of these names, the models of these keys."""
        return EnsembleLoader(lambda name, version: self._resolve(links.get(name, name), version), self._store)

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:  # noqa: ARG002  contract
        """Return the configuration as it is: an ensemble has no files to learn from."""
        return config

    async def load(self, source: ModelSource) -> Model:
        """Make the ensemble; its members are loaded.

        Raises:
            InvalidArgument: ensembles are nested in it too deeply.
        """
        model = EnsembleModel(source.config, source.version, self._resolve, note=log.debug)
        if model.nesting > MOST_NESTED:
            raise InvalidArgument(
                f"ensemble '{source.config.name}' holds ensembles {model.nesting} deep; up to {MOST_NESTED} can be",
                hint="list the steps of inner ensembles in the outer one",
            )
        limit = source.config.proto.ensemble_scheduling.max_inflight_requests
        if limit:
            log.info(messages.inflight_limited(source.config.name, limit))
        return with_cache(model, self._store)


def fit_members(candidate: Candidate, shelf: Shelf, failures: Mapping[str, str]) -> str:
    """Return why an ensemble does not fit its members as they are loaded, or nothing; other models always do.

    `failures` are the reasons of members that were loaded just now (empty where they are ready).
    """
    name = candidate.name
    configs = {}
    for step in candidate.config.ensemble_scheduling.step:
        member = candidate.linked(step)
        versions = shelf.versions(member)
        if not versions:
            record = shelf.records.get(member)
            if record is None and not failures.get(member):
                return messages.members_missing(name, member)
            if record is None:
                return messages.member_invalid(name, member, failures[member])
            return messages.member_failed(name, member, failures.get(member, messages.UNLOADED))
        if step.model_version != -1 and str(step.model_version) not in versions:
            return messages.member_version_missing(name, member, step.model_version)
        wanted = "" if step.model_version == -1 else str(step.model_version)
        configs[step.model_name] = shelf.model(member, wanted).config.proto
    finding = next(check_members(candidate.config, configs), None) if configs else None
    return finding.message if finding else ""
