"""What a server tells about itself, put together from the options: metrics, for now."""

from collections.abc import Callable, Sequence

from tritium.cli.options import ServeOptions, SettingsError
from tritium.core.errors import InvalidArgument
from tritium.core.model import Model
from tritium.observe.distributions import MetricsConfig, latency_distributions, read_metrics_config
from tritium.observe.machine import Machine, pinned_memory, process
from tritium.observe.models import model_metrics
from tritium.observe.samples import MetricSource


def metrics_config(options: ServeOptions) -> MetricsConfig:
    """Return what --metrics-config asks for.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return read_metrics_config(options.metrics_config)
    except InvalidArgument as error:
        raise SettingsError(error.message) from None


def server_metrics(
    options: ServeOptions, config: MetricsConfig, models: Callable[[], Sequence[Model]]
) -> list[MetricSource]:
    """Return the sources of what the server itself measures: its models, the machine, the process."""
    sources: list[MetricSource] = [model_metrics(models, config), pinned_memory(options.pinned_memory_bytes)]
    if options.cpu_metrics:
        sources.append(Machine(options.metrics_interval_ms / 1000))
    return [*sources, process, latency_distributions(models, config)]
