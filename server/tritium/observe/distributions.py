"""What --metrics-config asks for, and the distributions of latencies it switches on, as samples.

    --metrics-config summary_latencies=true -> MetricsConfig -> Latencies of each model that loads -> samples

Names and HELP texts are Triton's. Source: Triton core, metrics.cc and metric_model_reporter.cc, 2.73.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from tritium.core.clock import SYSTEM_CLOCK, Clock
from tritium.core.errors import InvalidArgument
from tritium.core.latencies import DEFAULT_BUCKETS, DEFAULT_TARGETS, Latencies
from tritium.core.model import Model
from tritium.core.quantiles import Target
from tritium.observe.histogram import histogram_samples
from tritium.observe.labels import model_labels
from tritium.observe.samples import Kind, MetricSource, Sample, number

log = structlog.get_logger("tritium.metrics")

FIRST_RESPONSE: Final = "nv_inference_first_response_histogram_ms"
_HISTOGRAM_HELP: Final = "Duration from request to first response in milliseconds"

_SUMMARIES: Mapping[str, tuple[str, str]] = {
    "request": (
        "nv_inference_request_summary_us",
        "Summary of inference request duration in microseconds (includes cached requests)",
    ),
    "queue": (
        "nv_inference_queue_summary_us",
        "Summary of inference queuing duration in microseconds (includes cached requests)",
    ),
    "compute_input": (
        "nv_inference_compute_input_summary_us",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
    ),
    "compute_infer": (
        "nv_inference_compute_infer_summary_us",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
    ),
    "compute_output": (
        "nv_inference_compute_output_summary_us",
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
    ),
    "cache_hit": (
        "nv_cache_hit_summary_per_model",
        "Summary of cache hit counts/durations per model, in microseconds.",
    ),
    "cache_miss": (
        "nv_cache_miss_summary_per_model",
        "Summary of cache miss counts/durations per model, in microseconds.",
    ),
}

_LEADING_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Which latencies are reported in which form; `cache` tells whether the server has a response cache."""

    counters: bool = True
    histograms: bool = False
    summaries: bool = False
    targets: tuple[Target, ...] = DEFAULT_TARGETS
    cache: bool = False

    def caches(self, model: Model) -> bool:
        """Tell whether a model's responses are cached."""
        return self.cache and model.config.proto.response_cache.enable

    def latencies(self, model: Model, clock: Clock = SYSTEM_CLOCK) -> Latencies | None:
        """Make what a model that has just loaded keeps of its latencies; nothing where only counters are asked for."""
        if not self.histograms and not self.summaries:
            return None
        return Latencies(clock, self.targets if self.summaries else (), _buckets(model) if self.histograms else None)


def read_metrics_config(settings: Sequence[str], *, cache: bool = False) -> MetricsConfig:
    """Read the values of --metrics-config, each `NAME=VALUE`; the last of a name wins.

    As in Triton, a name or a value it does not know changes nothing, and so does a quantile that is no number: they
    are logged.

    Raises:
        InvalidArgument: a value that is not of that form.
    """
    given: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name or not value or "," in name:
            raise InvalidArgument(f"--metrics-config option format is <setting>=<value>. Got {setting}")
        given[name] = value
    for name in given.keys() - {"counter_latencies", "histogram_latencies", "summary_latencies", "summary_quantiles"}:
        log.warning("unknown_metrics_config", setting=name)
    return MetricsConfig(
        given.get("counter_latencies") != "false",
        given.get("histogram_latencies") == "true",
        given.get("summary_latencies") == "true",
        _targets(given.get("summary_quantiles", "")) or DEFAULT_TARGETS,
        cache,
    )


def latency_distributions(models: Callable[[], Sequence[Model]], config: MetricsConfig) -> MetricSource:
    """Return the source of the histograms and summaries of whatever models are loaded when it is asked."""

    def samples() -> Iterator[Sample]:
        loaded = [(model, model.statistics.latencies) for model in models()]
        for model, latencies in loaded:
            if latencies is not None and latencies.first_response_ms is not None:
                yield from histogram_samples(
                    FIRST_RESPONSE, _HISTOGRAM_HELP, model_labels(model), latencies.first_response_ms
                )
        for name, (family, text) in _SUMMARIES.items():
            for model, latencies in loaded:
                if latencies is not None and _reported(name, cached=config.caches(model)):
                    yield from _summary(family, text, model_labels(model), latencies, name)

    return samples


def _reported(name: str, *, cached: bool) -> bool:
    """Tell whether a summary belongs to a model; a cached one has none of whole requests, which would mislead."""
    return name != "request" if cached else not name.startswith("cache")


def _summary(family: str, text: str, labels: Mapping[str, str], latencies: Latencies, name: str) -> Iterator[Sample]:
    summary = latencies.summaries.get(name)
    if summary is None:
        return
    yield Sample(family, summary.count, labels, Kind.SUMMARY, text, suffix="_count")
    yield Sample(family, summary.sum, labels, Kind.SUMMARY, text, suffix="_sum")
    values = summary.values(latencies.clock.now_ns())
    for target, value in zip(summary.targets, values, strict=True):
        yield Sample(family, value, {**labels, "quantile": number(target.quantile)}, Kind.SUMMARY, text)


def _targets(text: str) -> tuple[Target, ...]:
    """Read `0.5:0.05,0.9:0.01`: quantiles, each with its error; of each number what can be read counts."""
    targets = []
    for pair in text.split(",") if text else ():
        quantile, colon, error = pair.partition(":")
        numbers = [match[0] for match in map(_LEADING_NUMBER.match, (quantile, error)) if match]
        if colon and len(numbers) == 2:
            targets.append(Target(float(numbers[0]), float(numbers[1])))
        else:
            log.error("bad_summary_quantile", option=pair, hint="<quantile>:<error>, as in 0.9:0.01")
    return tuple(targets)


def _buckets(model: Model) -> Sequence[float]:
    """Return the bounds of the first response's histogram: the configuration's, or Triton's."""
    bounds: Sequence[float] = DEFAULT_BUCKETS
    for control in model.config.proto.model_metrics.metric_control:
        if control.metric_identifier.family == FIRST_RESPONSE:
            bounds = tuple(control.histogram_options.buckets)
        else:
            log.warning("metric_not_customizable", model=model.name, family=control.metric_identifier.family)
    return bounds
