"""Triton's metrics of models, nv_*, read from their statistics when they are asked for.

Names, labels and HELP texts are Triton's, so that dashboards and alerts keep working.
Source: Triton core, metrics.cc and metric_model_reporter.cc.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from tritium.core.model import Model
from tritium.core.statistics import Statistics
from tritium.observe.samples import Kind, MetricSource, Sample

REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
"""Every value of the `reason` label, written out also while it is zero."""

_COUNTERS: Mapping[str, tuple[str, Callable[[Statistics], float]]] = {
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


def model_metrics(models: Callable[[], Sequence[Model]]) -> MetricSource:
    """Return the source of the metrics of whatever models are loaded when it is asked."""

    def samples() -> Iterator[Sample]:
        loaded = [(_labels(model), model.statistics) for model in models()]
        for kind, families in ((Kind.COUNTER, _COUNTERS), (Kind.GAUGE, _GAUGES)):
            for family, (text, read) in families.items():
                for labels, statistics in loaded:
                    yield Sample(family, read(statistics), labels, kind, text)
        for labels, statistics in loaded:
            yield from _failures(labels, statistics)
        for labels, statistics in loaded:
            yield from _cuts(labels, statistics)

    return samples


def _failures(labels: Mapping[str, str], statistics: Statistics) -> Iterator[Sample]:
    for reason in REASONS:
        yield Sample(
            "nv_inference_request_failure",
            statistics.failures.get(reason, 0),
            dict(sorted({**labels, "reason": reason}.items())),
            Kind.COUNTER,
            "Number of failed inference requests, all batch sizes",
        )


def _cuts(labels: Mapping[str, str], statistics: Statistics) -> Iterator[Sample]:
    for reason, count in statistics.cuts.items():
        yield Sample(
            "tritium_batch_cut_total",
            count,
            {**labels, "reason": reason},
            Kind.COUNTER,
            "Batches of the dynamic batcher, by why they were not larger",
        )


def _labels(model: Model) -> dict[str, str]:
    tags = {f"_{name}": value for name, value in model.config.proto.metric_tags.items()}
    return dict(sorted({"model": model.name, "version": model.version, **tags}.items()))
