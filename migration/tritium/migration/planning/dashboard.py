"""A Grafana dashboard that holds the new server against the old one: each panel has both, told apart by their jobs.

Tensor models have the same metrics on both, by the same names; what only a language model's fleet has stands below.
"""

import json
from collections.abc import Iterator

from tritium.migration.deployment import Deployment, Watch
from tritium.migration.planning.plan import Change, NewFile

NAME = "tritium-comparison.json"
_SIDES = (("old", "Triton"), ("new", "Tritium"))
_BOTH = (
    ("Inferences a second", "reqps", 'sum by (model) (rate(nv_inference_request_success{{job="${side}"}}[5m]))'),
    ("Failures a second", "reqps", 'sum by (model) (rate(nv_inference_request_failure{{job="${side}"}}[5m]))'),
    ("Time of a request", "µs", "{mean}nv_inference_request_duration_us{by}"),
    ("Time in the queue", "µs", "{mean}nv_inference_queue_duration_us{by}"),
    ("Time of computing", "µs", "{mean}nv_inference_compute_infer_duration_us{by}"),
    ("Waiting requests", "short", 'sum by (model) (nv_inference_pending_request_count{{job="${side}"}})'),
)
_FLEET = (
    ("Sequences that run", "short", 'sum by (model) (tritium_engine_running{job="$new"})'),
    ("Sequences that wait in engines", "short", 'sum by (model) (tritium_engine_waiting{job="$new"})'),
    ("Tokens a second", "short", 'sum by (model) (rate(tritium_output_tokens_total{job="$new"}[5m]))'),
)
_MEAN = "sum by (model) (rate("
_BY = '{{job="${side}"}}[5m])) / sum by (model) (rate(nv_inference_request_success{{job="${side}"}}[5m]))'


def comparison(deployment: Deployment) -> Iterator[Change]:
    """Yield the dashboard, beside the first one over Triton's metrics; nothing where there is none, or it is there."""
    first = next((query for query in deployment.queries if query.watch is Watch.DASHBOARD), None)
    if first is None or first.source.path.suffix != ".json":
        return
    path = first.source.path.with_name(NAME)
    if not (deployment.root / path).exists():
        message = "a dashboard of both servers side by side"
        yield Change("O01", str(path), 0, message, safe=True, creates=[NewFile(str(path), dashboard())])


def dashboard() -> str:
    """Return the dashboard as Grafana imports it."""
    panels = [_panel(title, unit, list(_targets(text))) for title, unit, text in _BOTH]
    panels += [_panel(title, unit, [_target("A", text, "Tritium {{model}}")]) for title, unit, text in _FLEET]
    for number, panel in enumerate(panels):
        panel |= {"id": number + 1, "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)}}
    said = {
        "title": "Triton and Tritium",
        "uid": "tritium-comparison",
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_datasource(), *(_job(side, label) for side, label in _SIDES)]},
        "panels": panels,
    }
    return json.dumps(said, indent=2, ensure_ascii=False) + "\n"


def _targets(text: str) -> Iterator[dict[str, object]]:
    mean = text.replace("{mean}", _MEAN).replace("{by}", _BY)
    for letter, (side, label) in zip("AB", _SIDES, strict=True):
        yield _target(letter, mean.format(side=side), f"{label} {{{{model}}}}")


def _target(letter: str, text: str, legend: str) -> dict[str, object]:
    return {"refId": letter, "expr": text, "legendFormat": legend}


def _panel(title: str, unit: str, targets: list[dict[str, object]]) -> dict[str, object]:
    return {
        "title": title,
        "type": "timeseries",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": targets,
    }


def _datasource() -> dict[str, object]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _job(side: str, label: str) -> dict[str, object]:
    """Return the variable that chooses a server by its job; both have this metric from their start on."""
    return {
        "name": side,
        "type": "query",
        "label": f"{label}'s job",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": "label_values(nv_inference_request_success, job)",
        "refresh": 2,
    }
