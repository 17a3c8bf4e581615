"""vLLM's own metrics: what its Prometheus logger keeps in this process, family by family, under its own names."""

from tritium.backends.engine import MetricFamily, MetricValue

PREFIX = "vllm:"


def own_metrics() -> list[MetricFamily]:
    """Return every family of vLLM's; the moments at which counters were made (`_created`) are left out."""
    from prometheus_client import REGISTRY  # noqa: PLC0415  comes with vLLM

    families = []
    for family in REGISTRY.collect():
        if not family.name.startswith(PREFIX):
            continue
        # The client library names a counter's family without the _total that its text form has.
        name = f"{family.name}_total" if family.type == "counter" else family.name
        values = [
            MetricValue(sample.name.removeprefix(name), dict(sample.labels), sample.value)
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]
        families.append(MetricFamily(name, family.type, family.documentation, values))
    return families
