"""Opening one version of a model: completing its configuration, checking it, and handing it to its loader."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tritium.backends.contract import ModelSource
from tritium.compat.config import messages
from tritium.compat.config.defaults import complete_instances, normalize
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.config.problem import Stage
from tritium.compat.config.unserved import check_served
from tritium.compat.config.validate import check_config, check_load
from tritium.core.errors import InferenceError, Internal, InvalidArgument, Unsupported
from tritium.core.model import Model
from tritium.repository.candidate import Candidate, Rules
from tritium.repository.loader import ChangingLoader, Loader, Offer, offer_nothing

log = structlog.get_logger("tritium")


@dataclass(frozen=True, slots=True)
class Opened:
    """A version that is ready to serve; `config` is its completed proto."""

    version: str
    model: Model
    config: Any
    labels: Mapping[str, Sequence[str]]
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A version that could not be loaded, with the reason as the repository index gives it."""

    version: str
    reason: str
    seconds: float
    hint: str = ""


async def open_version(
    candidate: Candidate, version: str, loaders: Mapping[str, Loader], rules: Rules, offer: Offer = offer_nothing
) -> Opened | Failed:
    """Load one version; whatever goes wrong becomes its reason."""
    began = time.monotonic()
    try:
        config = await _complete(candidate, version, loaders, rules)
        labels = _labels(candidate.folder, config.proto)
        source = ModelSource(config, candidate.folder, version)
        offered = await asyncio.to_thread(offer, source)
        model = await loaders[candidate.backend].load(source)
    except InferenceError as error:
        reason = f"{messages.STATUS_NAMES[error.grpc_code]}: {error.message}"
        return Failed(version, reason, time.monotonic() - began, error.hint)
    except Exception as error:
        # A backend's fault must not stop the server; where it is, only the traceback tells.
        log.exception("model_load_failed", model=candidate.name, version=version)
        return Failed(version, f"Internal: {type(error).__name__}: {error}", time.monotonic() - began)
    if offered is not None:
        offered(model)
    model.namespace = candidate.namespace
    model.statistics.load_seconds = time.monotonic() - began
    return Opened(version, model, config.proto, labels, model.statistics.load_seconds)


async def change_instances(
    candidate: Candidate, version: str, model: Model, loader: ChangingLoader, wait_s: float
) -> Failed | None:
    """Give a version that serves the instances it is to have; it goes on with its old ones where that fails."""
    began = time.monotonic()
    try:
        _refuse_problem(candidate)
        await loader.change_instances(model, candidate.config.instance_group, wait_s)
    except InferenceError as error:
        reason = f"{messages.STATUS_NAMES[error.grpc_code]}: {error.message}"
        return Failed(version, reason, time.monotonic() - began, error.hint)
    except Exception as error:
        log.exception("model_update_failed", model=candidate.name, version=version)
        return Failed(version, f"Internal: {type(error).__name__}: {error}", time.monotonic() - began)
    return None


async def _complete(candidate: Candidate, version: str, loaders: Mapping[str, Loader], rules: Rules) -> ModelConfig:
    _refuse_problem(candidate)
    proto = type(candidate.config)()
    proto.CopyFrom(candidate.config)
    config = from_proto(proto)
    if rules.auto_complete:
        config = await loaders[candidate.backend].complete(config, candidate.folder, version)
        normalize(config.proto)
        complete_instances(config.proto, rules.gpus)
    for finding in (*check_config(config.proto), *check_load(config.proto, rules.gpus), *check_served(config.proto)):
        if finding.stage is not Stage.WARNING:
            raise _ERRORS[finding.status](finding.message, finding.hint)
    return from_proto(config.proto)


def _refuse_problem(candidate: Candidate) -> None:
    if problem := candidate.first(Stage.LOAD):
        raise _ERRORS[problem.status](problem.reason or problem.message, problem.hint)


_ERRORS: Mapping[str, type[InferenceError]] = {
    "Invalid argument": InvalidArgument,
    "Internal": Internal,
    "Unsupported": Unsupported,
}


def _labels(folder: Path, config: Any) -> dict[str, list[str]]:
    """Read the label file of every output that names one; the label of class N is line N."""
    return {
        output.name: (folder / output.label_filename).read_text().splitlines()
        for output in config.output
        if output.label_filename
    }
