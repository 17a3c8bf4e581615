"""Metrics beside metrics: an expression over what Tritium has under another name is written once more, next to the old.

    dashboard   a second target in the panel          rules   a second alert or recording rule after the first

The old ones stay, and go on showing the old server while both run. In place they are replaced only for who asks.
"""

import re
from collections.abc import Iterator

from tritium.migration.deployment import Deployment, Query, Watch
from tritium.migration.metrics import ELSEWHERE, KEPT, LANGUAGE, base, names
from tritium.migration.planning.plan import Change, Piece
from tritium.migration.text.source import Source, Span
from tritium.migration.text.tree import Mapping, Scalar, Sequence, documents, walk

_SCALE = {
    "nv_gpu_utilization": "({} / 100)",
    "nv_gpu_memory_total_bytes": "({} * 1048576)",
    "nv_gpu_memory_used_bytes": "({} * 1048576)",
    "nv_energy_consumption": "({} / 1000)",
}
"""dcgm-exporter counts percents, mebibytes and millijoules, where Triton has shares, bytes and joules."""
_RULES = {Watch.DASHBOARD: "O01", Watch.ALERT: "O02", Watch.RECORDING: "O02", Watch.AUTOSCALER: "O03"}
METRICS = frozenset(_RULES.values())
"""The rules whose changes are about metrics."""
_SELECTOR = re.compile(r"\s*\{[^{}]*\}")


def beside(deployment: Deployment, *, replace: bool = False) -> Iterator[Change]:
    """Yield a change for every expression that can be told by Tritium's metrics; with `replace`, in its place."""
    for query in deployment.queries:
        new = translated(query.text)
        if not new or query.span.of(query.source.text) != query.text:
            continue
        rule, line = _RULES[query.watch], query.source.place(query.span.start)[0]
        path = str(query.source.path)
        if replace:
            pieces = [Piece(path, query.span.start, query.span.end, new)]
            yield Change(rule, path, line, f"{new} in place of {query.text}", safe=False, pieces=pieces)
        elif query.watch is not Watch.AUTOSCALER and (piece := _second(query, new)) is not None:
            # An alert that is told by both fires twice; a panel with both harms nobody.
            safe = query.watch is Watch.DASHBOARD
            yield Change(rule, path, line, f"{new} beside {query.text}", safe=safe, pieces=[piece])


def translated(expression: str) -> str:
    """Return an expression over Tritium's metrics; "" where some of it has no counterpart, or nothing differs.

    Labels of GPUs are others in dcgm-exporter, so expressions that select by them are left alone. So are those over
    metrics that Tritium has under the same name: they need nothing.
    """
    new = expression
    found = [name for name in names(expression) if base(name) not in KEPT]
    for name in found:
        if base(name) in LANGUAGE and "_trt_llm_" in name:
            return ""  # One name of many series, told apart by labels that have no counterpart.
        other = ELSEWHERE.get(base(name)) or LANGUAGE.get(base(name), "")
        at = re.search(rf"\b{name}\b", new)
        if not other or at is None or _SELECTOR.match(new, at.end()) or re.match(r"\s*\[", new[at.end() :]):
            return ""
        new = re.sub(rf"\b{name}\b", _SCALE.get(name, "{}").format(other), new)
    return new if found else ""


def _second(query: Query, new: str) -> Piece | None:
    """Write the list item in which an expression stands once more, after itself; None where that cannot be told."""
    source = query.source
    if new in source.text:
        return None
    item = next((found for tree in documents(source) if (found := _item(tree, query.span)) is not None), None)
    if item is None:
        return None
    copy = _renamed(source, item, query.span, new)
    text = source.text
    if text[item.span.start] == "{":
        begin = text.rfind("\n", 0, item.span.start) + 1
        indent = text[begin : item.span.start]
        newline = "\r\n" if text[:begin].endswith("\r\n") else "\n"
        between = f",{newline}{indent}" if begin and not indent.strip() else ", "
        return Piece(str(source.path), item.span.end, item.span.end, between + copy)
    return _block(source, item, copy)


def _block(source: Source, item: Mapping, copy: str) -> Piece | None:
    """Put the copy of an item of a YAML list after it, with its dash and indentation."""
    text = source.text
    begin = text.rfind("\n", 0, item.span.start) + 1
    lead = text[begin : item.span.start]
    if not re.fullmatch(r"[ ]*-[ ]+", lead):
        return None
    end = begin + len(lead) + len(text[item.span.start : item.span.end].rstrip())
    newline = "\r\n" if "\r\n" in text else "\n"
    return Piece(str(source.path), end, end, newline + lead + copy.rstrip())


def _item(tree: object, span: Span) -> Mapping | None:
    """Return the innermost item of a list around a span."""
    best: Mapping | None = None
    if isinstance(tree, Mapping | Sequence):
        for keys, node in walk(tree):
            around = node.span.start <= span.start and span.end <= node.span.end
            if around and isinstance(node, Mapping) and keys[-1:] == ("-",):
                best = node
    return best


def _renamed(source: Source, item: Mapping, expression: Span, new: str) -> str:
    """Return the item's text with the new expression, and a name that nothing else has."""
    text, edits = source.text, [(expression, new)]
    for key, value in item.entries:
        if not isinstance(value, Scalar) or value.span.of(text) != value.text:
            continue
        if key.text in ("alert", "legendFormat") and value.text:
            edits.append((value.span, f"{value.text}{'OnTritium' if key.text == 'alert' else ' (Tritium)'}"))
        elif key.text == "record":
            edits.append((value.span, f"{value.text}:tritium"))
        elif key.text == "refId":
            edits.append((value.span, f"{value.text}_tritium"))
    pieces, at = [], item.span.start
    for span, said in sorted(edits):
        pieces += [text[at : span.start], said]
        at = span.end
    return "".join((*pieces, text[at : item.span.end]))
