"""What a server tells about itself, put together from the options: its log, its traces and its metrics."""

import os
import sys
from collections.abc import Callable, Sequence

import structlog

from tritium.cli.options import ServeOptions, SettingsError
from tritium.compat.trace_config import TraceConfig, TraceConfigError, read_trace_config
from tritium.core.cache.store import Store
from tritium.core.errors import InvalidArgument
from tritium.core.log_settings import LogSettings, LogSettingsControl
from tritium.core.model import Model
from tritium.core.trace_settings import OPENTELEMETRY, TraceSettings, TraceSettingsBook, TraceSink
from tritium.observe.access import logged_grpc, logged_http, verbose_http
from tritium.observe.cache import CountedStore
from tritium.observe.distributions import MetricsConfig, latency_distributions, read_metrics_config
from tritium.observe.machine import Machine, pinned_memory, process
from tritium.observe.models import model_metrics
from tritium.observe.samples import MetricSource
from tritium.observe.trace_file import TraceFiles
from tritium.wire.grpc import Methods
from tritium.wire.http import Handler

log = structlog.get_logger("tritium")

_LEVELS = ("error", "warning", "info", "debug")


def settings_of_log(options: ServeOptions) -> LogSettings:
    """Return how the log begins: a severity is written where --log-level and its own switch both say so."""
    level = _LEVELS.index(options.log_level)
    return LogSettings(
        options.log_file,
        info=options.log_info and level >= _LEVELS.index("info"),
        warning=options.log_warning and level >= _LEVELS.index("warning"),
        error=options.log_error,
        verbose_level=max(options.log_verbose, int(options.log_level == "debug")),
        format=options.log_format,
    )


def observed_http(handler: Handler, options: ServeOptions, protocol: str, log: LogSettingsControl | None) -> Handler:
    """Return a handler with what the log is to tell of its requests; `log` decides about verbose lines."""
    handler = logged_http(handler, protocol) if options.access_log else handler
    return verbose_http(handler, log) if log is not None else handler


def observed_grpc(methods: Methods, options: ServeOptions) -> Methods:
    """Return the methods with what the log is to tell of their calls."""
    return logged_grpc(methods) if options.access_log else methods


def tracing(options: ServeOptions) -> TraceSettingsBook:
    """Return the trace settings to begin with, and where traces go: files, or an OpenTelemetry collector.

    Raises:
        SettingsError: --trace-config cannot be read; OpenTelemetry is not installed.
    """
    try:
        config = read_trace_config(options.trace_config, os.environ)
    except TraceConfigError as error:
        raise SettingsError(str(error)) from None
    settings = TraceSettings(
        config.level, config.rate, config.count, config.log_frequency, config.file, config.mode, config.options
    )
    if settings.level and settings.problem and settings.mode != OPENTELEMETRY:  # whose clients may ask to be traced
        log.warning("nothing_is_traced", reason=settings.problem, hint="--trace-config triton,file=PATH and rate=N")
    return TraceSettingsBook(settings, _spans(config) if config.mode == OPENTELEMETRY else TraceFiles())


def _spans(config: TraceConfig) -> TraceSink:
    # Only who sends spans pays for importing what sends them, or needs to have it.
    try:
        from tritium.observe.trace_spans import TraceSpans  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(
            f"--trace-config mode=opentelemetry: {error}\n  hint: {sys.executable} -m pip install 'tritium[otel]'"
        ) from None
    return TraceSpans(config.options)


def metrics_config(options: ServeOptions) -> MetricsConfig:
    """Return what --metrics-config asks for.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return read_metrics_config(options.metrics_config, cache=bool(options.cache_config))
    except InvalidArgument as error:
        raise SettingsError(error.message) from None


def server_metrics(
    options: ServeOptions, config: MetricsConfig, models: Callable[[], Sequence[Model]], store: Store | None = None
) -> list[MetricSource]:
    """Return the sources of what the server itself measures: its models, its cache, the machine, the process."""
    sources: list[MetricSource] = [model_metrics(models, config), pinned_memory(options.pinned_memory_bytes)]
    if options.cpu_metrics:
        sources.append(Machine(options.metrics_interval_ms / 1000))
    if isinstance(store, CountedStore):
        sources.append(store.samples)
    return [*sources, process, latency_distributions(models, config)]
