"""Rules of dashboards, alerts and autoscalers: which metrics stay, which are elsewhere, which never were."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import ClassVar

from tritium.migration.deployment import Deployment, Query, Watch
from tritium.migration.finding import Finding, Severity
from tritium.migration.metrics import ELSEWHERE, KEPT, LANGUAGE, base, existed, names
from tritium.migration.rules.rule import Rule
from tritium.migration.text.source import Span


class Watched(Rule):
    """Expressions of one use over metrics that the models of this deployment have under other names here."""

    watches: ClassVar[frozenset[Watch]]

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find expressions over metrics of GPUs, and over what a language model measures otherwise."""
        language = any(
            model.kind is not None and model.kind.name in ("vllm", "tensorrtllm") for model in deployment.models
        )
        for query in deployment.queries:
            if query.watch not in self.watches:
                continue
            for name in names(query.text):
                stem = base(name)
                if stem in ELSEWHERE:
                    said = f"{name} is not exported here: GPUs are measured by dcgm-exporter"
                    yield self.at(query.source, _place(query, name), said, f"write {ELSEWHERE[stem]}")
                elif stem in LANGUAGE and (language or stem not in KEPT):
                    other = LANGUAGE[stem]
                    said = (
                        f"{name} says little of a language model here" if stem in KEPT else f"{name} is TensorRT-LLM's"
                    )
                    advice = f"add {other} beside it" if other else "there is nothing like it here"
                    gravity = Severity.INFO if stem in KEPT else None
                    yield self.at(query.source, _place(query, name), said, advice, severity=gravity)


class Dashboards(Watched):
    """A dashboard shows metrics that are elsewhere here.

    All `nv_inference_*`, `nv_cache_*` and `nv_cpu_*` metrics stay under their names. Metrics of GPUs come from
    dcgm-exporter, which measures the GPUs of every worker; those of TensorRT-LLM's engine have counterparts in the
    fleet's. New panels are put beside old ones, never in their place.

    Before dashboard.json:

        {"panels": [{"title": "GPU", "targets": [{"expr": "avg(nv_gpu_utilization)"}]}]}

    Before model/config.pbtxt:

        backend: "onnxruntime"

    Finds: nv_gpu_utilization
    """

    id = "O01"
    severity = Severity.TODO
    watches = frozenset({Watch.DASHBOARD})


class Alerts(Watched):
    """An alert or recording rule uses metrics that are elsewhere here: it would silently never fire.

    Before rules.yaml:

        groups:
        - name: triton
          rules:
          - alert: HotGpu
            expr: nv_gpu_utilization > 0.95

    Before model/config.pbtxt:

        backend: "onnxruntime"

    Finds: nv_gpu_utilization
    """

    id = "O02"
    severity = Severity.TODO
    watches = frozenset({Watch.ALERT, Watch.RECORDING})


class Autoscalers(Watched):
    """An autoscaler follows a metric that is elsewhere here: it would keep the number of replicas as it is.

    For language models, scale by the requests that wait in the fleet. The old rule stays; a new one stands beside it
    until it has proven itself.

    Before scaled.yaml:

        apiVersion: keda.sh/v1alpha1
        kind: ScaledObject
        spec:
          triggers:
          - type: prometheus
            metadata:
              query: avg(nv_gpu_utilization)

    Before model/config.pbtxt:

        backend: "onnxruntime"

    Finds: nv_gpu_utilization
    """

    id = "O03"
    severity = Severity.TODO
    watches = frozenset({Watch.AUTOSCALER})


class NeverWas(Rule):
    """An expression over a metric that Triton never exported, or over buckets of a counter: it has always been empty.

    NVIDIA's own charts for clouds ask for `nv_inference_load_ratio_bucket` and `nv_inference_compute_duration_us`,
    which left with Triton's first version. `histogram_quantile` over `nv_inference_request_duration_us_bucket` gives
    nothing, because that metric is a counter. The panel was empty, the alert never fired.

    Before dashboard.json:

        {"panels": [{"targets": [{"expr": "sum(increase(nv_inference_load_ratio_bucket[1m])) by (le)"}]}]}

    Before model/config.pbtxt:

        backend: "onnxruntime"

    Finds: never exported nv_inference_load_ratio_bucket
    """

    id = "O04"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every such name."""
        made = {alias for query in deployment.queries for alias in _made_here(query)}
        for query in deployment.queries:
            for name in names(query.text):
                if existed(name) or name in made:
                    continue
                stem = re.sub(r"_(bucket|sum|count)$", "", name)
                if stem in KEPT:
                    advice = f"{stem} is a counter: write rate({stem}[1m]) / rate(nv_inference_request_success[1m])"
                else:
                    near = get_close_matches(name, sorted(KEPT), n=1)
                    advice = f"did you mean {near[0]}?" if near else ""
                effect = {Watch.ALERT: "the alert never fired", Watch.AUTOSCALER: "nothing was ever scaled by it"}
                message = f"Triton never exported {name}: {effect.get(query.watch, 'it has always been empty')}"
                yield self.at(query.source, _place(query, name), message, advice, already=True)


def _made_here(query: Query) -> Iterator[str]:
    """Yield names that an adapter's rules around a query give its result."""
    text = query.source.text
    yield from re.findall(r"""\bas:\s*["']?(nv_\w+)""", text)
    yield from re.findall(r"""\brecord:\s*["']?(nv_\w+)""", text)


def _place(query: Query, name: str) -> Span:
    """Return where a metric is named within an expression, as it stands in the file."""
    at = query.span.of(query.source.text).find(name)
    start = query.span.start + max(0, at)
    return Span(start, start + len(name)) if at >= 0 else query.span


class Scraping(Rule):
    """What scrapes the server's metrics by name or port.

    Port 8002 and `/metrics` stay, so a ServiceMonitor, PodMonitor or scrape job goes on as it is.

    Before monitor.yaml:

        apiVersion: monitoring.coreos.com/v1
        kind: ServiceMonitor
        metadata:
          name: triton-metrics
        spec:
          endpoints:
          - port: metrics

    Before model/config.pbtxt:

        backend: "onnxruntime"

    Finds: ServiceMonitor
    """

    id = "O05"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find monitors of the server."""
        for source in deployment.sources.values():
            if source.path.suffix in (".yaml", ".yml", ".tpl") and "triton" in source.text.lower():
                for match in re.finditer(r"^kind:\s*(ServiceMonitor|PodMonitor)\b", source.text, re.MULTILINE):
                    yield self.at(source, Span(*match.span(1)), f"{match[1]} stays: /metrics is on port 8002")


RULES = (Dashboards, Alerts, Autoscalers, NeverWas, Scraping)
