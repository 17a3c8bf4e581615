"""Triton's rules for a whole configuration; each finding carries Triton's words.

`check_config` is what Triton checks while it reads the repository, `check_load` what it checks when it loads the
model. Source: ValidateModelConfig in core/src/model_config_utils.cc.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tritium.compat.config.batching import check_dynamic, check_sequence
from tritium.compat.config.defaults import ENSEMBLE, FAMILIES
from tritium.compat.config.ensemble import check_graph
from tritium.compat.config.finding import Finding
from tritium.compat.config.implicit_state import check_states
from tritium.compat.config.instances import check_instances
from tritium.compat.config.problem import Stage
from tritium.compat.config.tensors import check_tensors
from tritium.compat.config.warmup import check_warmup

_PLATFORM_BACKENDS = {platform: family.backend for family in FAMILIES for platform in family.platforms}
_PAIRED = {family.backend for family in FAMILIES if family.platforms}


def check_config(config: Any, *, backend_known: bool = True) -> Iterator[Finding]:
    """Find what is wrong with a configuration that `complete_backend` and `normalize` have been through.

    `backend_known` False is for a file by itself, whose backend only the files beside it would tell.
    """
    if backend_known:
        yield from _identity(config)
    if config.max_batch_size < 0:
        message = f"'max_batch_size' must be non-negative value for {config.name}"
        yield Finding(("max_batch_size",), message, "0 means that tensors have no batch dimension")
    if config.HasField("dynamic_batching"):
        yield from check_dynamic(config)
    if config.HasField("sequence_batching"):
        yield from check_sequence(config)
    yield from _scheduling(config)
    yield from _metrics(config)


def check_load(config: Any, gpus: Sequence[int] = (), *, complete: bool = True) -> Iterator[Finding]:
    """Find what stops the model from being loaded; `complete` False where its backend may still add tensors."""
    yield from check_tensors(config, complete=complete)
    yield from check_instances(config, gpus)
    yield from _runtime(config)
    yield from check_warmup(config)
    yield from check_states(config)


def _identity(config: Any) -> Iterator[Finding]:
    name, backend, platform = config.name, config.backend, config.platform
    if not backend and platform != ENSEMBLE:
        message = f"unexpected platform type '{platform}' for {name}"
        yield Finding(("platform",), message, 'name the backend instead, such as backend: "onnxruntime"')
    elif backend and platform == ENSEMBLE:
        message = f"Ensemble model '{name}' must have platform type '{platform}' and empty backend type"
        yield Finding(("backend",), message, "delete the backend line")
    elif backend in _PAIRED and _PLATFORM_BACKENDS.get(platform) != backend:
        right = [p for p, b in _PLATFORM_BACKENDS.items() if b == backend]
        message = f"unexpected 'platform' and 'backend' pair, got:{platform}, {backend}"
        yield Finding(("platform",), message, f"delete the platform line, or write {' or '.join(right)}")


def _runtime(config: Any) -> Iterator[Finding]:
    """Find a runtime that a backend here does not have: the library of its own name, or model.py."""
    usual = f"libtriton_{config.backend}.so"
    if config.runtime in ("", "model.py", usual):
        return
    if config.runtime.startswith("/") or ".." in config.runtime.split("/"):
        message = f"backend library name '{config.runtime}' escapes backend directory"
    else:
        message = f"unable to find backend library '{config.runtime}' for model '{config.name}'"
    yield Finding(("runtime",), message, f"delete the line, or write model.py or {usual}", Stage.LOAD)


def _scheduling(config: Any) -> Iterator[Finding]:
    name = config.name
    if config.HasField("ensemble_scheduling"):
        if config.platform != ENSEMBLE:
            yield Finding(
                ("ensemble_scheduling",),
                f"ensemble scheduling cannot be set for model '{name}' whose platform is not {ENSEMBLE}",
                'write platform: "ensemble" and no backend',
            )
        else:
            yield from check_graph(config)
    elif config.platform == ENSEMBLE:
        message = f"ensemble scheduling must be set for ensemble {name} whose platform is {ENSEMBLE}"
        yield Finding(("platform",), message, "add ensemble_scheduling { step [ ... ] }")
    if config.model_transaction_policy.decoupled and config.response_cache.enable:
        yield Finding(
            ("response_cache",),
            f"Response Cache does not currently support model {name} with 'decoupled' transaction policy. "
            "Please disable the response cache.",
        )


def _metrics(config: Any) -> Iterator[Finding]:
    for index, control in enumerate(config.model_metrics.metric_control):
        where = ("model_metrics", "metric_control", index)
        if not control.HasField("metric_identifier"):
            yield Finding(where, "metric control must specify 'metric_identifier'")
        elif not control.metric_identifier.family:
            yield Finding(where, "metric identifier must specify non-empty 'family'")
        if not control.HasField("histogram_options"):
            yield Finding(where, "metric control must specify 'histogram_options'")
        elif not control.histogram_options.buckets:
            yield Finding(where, "histogram options must specify non-empty 'buckets'")
