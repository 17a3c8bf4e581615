"""Triton's metrics of models, nv_*, read from their statistics when they are asked for.

Names, labels and HELP texts are Triton's, so that dashboards and alerts keep working.
Source: Triton core, metrics.cc and metric_model_reporter.cc.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from tritium.core.model import Model
from tritium.core.statistics import Statistics
from tritium.observe.distributions import MetricsConfig
from tritium.observe.labels import model_labels
from tritium.observe.samples import Kind, MetricSource, Sample

REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
"""Every value of the `reason` label, written out also while it is zero."""

_COUNTS: Mapping[str, tuple[str, Callable[[Statistics], float]]] = {
    "nv_inference_request_success": (
        "Number of successful inference requests, all batch sizes",
        lambda s: s.success.count,
    ),
    "nv_inference_count": (
        "Number of inferences performed (does not include cached requests)",
        lambda s: s.inference_count,
    ),
    "nv_inference_exec_count": (
        "Number of model executions performed (does not include cached requests)",
        lambda s: s.execution_count,
    ),
}

_LATENCIES: Mapping[str, tuple[str, Callable[[Statistics], float]]] = {
    "nv_inference_request_duration_us": (
        "Cumulative inference request duration in microseconds (includes cached requests)",
        lambda s: s.success.ns // 1000,
    ),
    "nv_inference_queue_duration_us": (
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        lambda s: s.queue.ns // 1000,
    ),
    "nv_inference_compute_input_duration_us": (
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        lambda s: s.compute_input.ns // 1000,
    ),
    "nv_inference_compute_infer_duration_us": (
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        lambda s: s.compute_infer.ns // 1000,
    ),
    "nv_inference_compute_output_duration_us": (
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
        lambda s: s.compute_output.ns // 1000,
    ),
}

_GAUGES: Mapping[str, tuple[str, Callable[[Statistics], float]]] = {
    "nv_inference_pending_request_count": (
        "Instantaneous number of pending requests awaiting execution per-model.",
        lambda s: s.pending,
    ),
    "nv_model_load_duration_secs": ("Model load time in seconds", lambda s: s.load_seconds),
}


_CACHE_COUNTERS: Mapping[str, tuple[str, Callable[[Statistics], float]]] = {
    "nv_cache_num_hits_per_model": ("Number of cache hits per model", lambda s: s.cache_hit.count),
    "nv_cache_hit_duration_per_model": (
        "Total cache hit duration per model, in microseconds",
        lambda s: s.cache_hit.ns // 1000,
    ),
    "nv_cache_num_misses_per_model": ("Number of cache misses per model", lambda s: s.cache_miss.count),
    "nv_cache_miss_duration_per_model": (
        "Total cache miss (insert+lookup) duration per model, in microseconds",
        lambda s: s.cache_miss.ns // 1000,
    ),
}


def model_metrics(models: Callable[[], Sequence[Model]], config: MetricsConfig | None = None) -> MetricSource:
    """Return the source of the counters and gauges of whatever models are loaded when it is asked."""
    config = config or MetricsConfig()

    def samples() -> Iterator[Sample]:
        loaded = models()
        for model in loaded:
            yield from _failures(model)
        counted = {**_COUNTS, **_LATENCIES} if config.counters else _COUNTS
        yield from _families(counted, Kind.COUNTER, loaded)
        if config.counters:
            yield from _families(_CACHE_COUNTERS, Kind.COUNTER, [model for model in loaded if config.caches(model)])
        yield from _families(_GAUGES, Kind.GAUGE, loaded)
        for model in loaded:
            yield from _cuts(model)

    return samples


def _families(
    families: Mapping[str, tuple[str, Callable[[Statistics], float]]], kind: Kind, models: Sequence[Model]
) -> Iterator[Sample]:
    labels = [model_labels(model) for model in models]
    for family, (text, read) in families.items():
        for model, its_labels in zip(models, labels, strict=True):
            yield Sample(family, read(model.statistics), its_labels, kind, text)


def _failures(model: Model) -> Iterator[Sample]:
    for reason in REASONS:
        yield Sample(
            "nv_inference_request_failure",
            model.statistics.failures.get(reason, 0),
            model_labels(model, reason=reason),
            Kind.COUNTER,
            "Number of failed inference requests, all batch sizes",
        )


def _cuts(model: Model) -> Iterator[Sample]:
    for reason, count in model.statistics.cuts.items():
        yield Sample(
            "tritium_batch_cut_total",
            count,
            model_labels(model, reason=reason),
            Kind.COUNTER,
            "Batches of the dynamic batcher, by why they were not larger",
        )
