"""Expressions over Triton's metrics: in dashboards, alerts, recording rules and autoscalers."""

import re
from collections.abc import Iterator

from tritium.migration.deployment import Query, Watch
from tritium.migration.launches.reading import Reading
from tritium.migration.text.source import Source, Span
from tritium.migration.text.tree import Mapping, Node, Scalar, walk

_KEYS = {"expr", "expression", "query", "seriesQuery", "metricsQuery", "metricName", "prometheusQuery"}
_METRIC = re.compile(r"\bnv_(?:inference|gpu|cpu|energy|cache|model|pinned|trt_llm|llm|triton|request)\w*")
_EMBEDDED = re.compile(r"""["']?(?:expr|query)["']?\s*:\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\n]*))""")


def queries(reading: Reading) -> Iterator[Query]:
    """Yield every expression in which a metric of Triton's is named."""
    source = reading.source
    if not _METRIC.search(source.text):
        return
    for tree in reading.trees:
        for keys, node in walk(tree):
            if isinstance(node, Mapping):
                yield from _in_mapping(source, tree, keys, node)
            elif isinstance(node, Scalar) and "\n" in node.text and keys and keys[-1] not in _KEYS:
                yield from _embedded(source, keys, node)


def _in_mapping(source: Source, tree: Node, keys: tuple[str, ...], node: Mapping) -> Iterator[Query]:
    for key, value in node.entries:
        named = key.text in _KEYS or (key.text == "name" and keys[-1:] == ("metric",))
        if named and isinstance(value, Scalar) and _METRIC.search(value.text):
            title = node.text("alert") or node.text("record") or node.text("title") or node.text("legendFormat")
            yield Query(_watch(tree, key.text, node), value.text, source, value.span, title)


def _embedded(source: Source, keys: tuple[str, ...], node: Scalar) -> Iterator[Query]:
    """Yield the expressions in a file that stands within another: a dashboard or rules in a ConfigMap."""
    within = node.span.of(source.text)
    watch = Watch.DASHBOARD if keys[-1].endswith(".json") or '"panels"' in within else Watch.ALERT
    for match in _EMBEDDED.finditer(within):
        group = next((number for number in (1, 2, 3) if match[number]), 0)
        if group and _METRIC.search(match[group]):
            span = Span(node.span.start + match.start(group), node.span.start + match.end(group))
            yield Query(watch, match[group], source, span)


def _watch(tree: Node, key: str, node: Mapping) -> Watch:
    kind = tree.text("kind") if isinstance(tree, Mapping) else ""
    if node.has("alert"):
        return Watch.ALERT
    if node.has("record"):
        return Watch.RECORDING
    scales = kind in ("HorizontalPodAutoscaler", "ScaledObject", "ScaledJob")
    if scales or key in ("seriesQuery", "metricsQuery", "metricName", "name", "query"):
        return Watch.AUTOSCALER
    return Watch.DASHBOARD
