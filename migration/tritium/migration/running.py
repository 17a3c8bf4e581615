"""A running Triton as what is audited: its index, configurations, metadata and statistics, read over HTTP.

Only GET, and the POST that lists the repository; nothing of the server changes.
"""

import json
import urllib.error
import urllib.request
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format  # type: ignore[import-untyped]  # protobuf's stubs are not required

from tritium.compat.config.parse import parse_text
from tritium.compat.protobufs import model_config_pb2
from tritium.migration.audit import check, judge
from tritium.migration.deployment import Deployment
from tritium.migration.ensembles import check_ensembles
from tritium.migration.finding import Audit
from tritium.migration.folder import Folder
from tritium.migration.found import Found
from tritium.migration.language import language_models
from tritium.migration.models import settle

_WAIT_S = 10.0


class ServerError(Exception):
    """The server does not answer, or not as Triton does."""


def survey_server(url: str) -> tuple[Deployment, dict[str, str]]:
    """Read a running server's models; and what its statistics say of each.

    Raises:
        ServerError: no Triton answers there.
    """
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ServerError(f"{url} is no URL: write http://host:8000, the HTTP port of Triton")
    found = Deployment(Path(url.partition("://")[2]))
    index = _ask(url, "/v2/repository/index", post=True)
    if not isinstance(index, list):
        raise ServerError(f"{url}/v2/repository/index is not answered; is this the HTTP port of Triton?")
    names = list(dict.fromkeys(str(entry.get("name", "")) for entry in index if isinstance(entry, dict)))
    for name in names:
        entries = [entry for entry in index if entry.get("name") == name]
        ready = any(entry.get("state") == "READY" for entry in entries)
        config = _ask(url, f"/v2/models/{name}/config") if ready else {}
        model = _model(name, config, [str(entry["version"]) for entry in entries if entry.get("version")])
        if not ready and (reasons := [str(entry["reason"]) for entry in entries if entry.get("reason")]):
            model.findings.clear()
            model.refuse("M20", f"Triton could not load it: {reasons[0]}")
        found.models.append(model)
    check_ensembles(found.models)
    found.groups = list(language_models(found.models))
    used = {name: _used(_ask(url, f"/v2/models/{name}/stats")) for name in names} if names else {}
    return found, used


def audit_server(url: str) -> Audit:
    """Audit a running server.

    Raises:
        ServerError: no Triton answers there.
    """
    deployment, used = survey_server(url)
    report = judge(deployment, check(deployment), deployment.root)
    models = tuple(replace(model, evidence=used.get(model.name, "")) for model in report.models)
    return replace(report, models=models)


def _model(name: str, config: Any, versions: list[str]) -> Found:
    place = Path(name, "config.pbtxt")
    message = model_config_pb2.ModelConfig()
    try:
        json_format.ParseDict(config, message, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ServerError(f"the configuration of {name} is not one of Triton's: {error}") from error
    parsed = parse_text(text_format.MessageToString(message), str(place))
    folder = Folder(Path(name), {version: frozenset() for version in sorted(set(versions), key=int)})
    found = Found(name, place, folder, parsed, message.backend or message.platform, Path(), bare=False)
    settle(found)
    return found


def _used(statistics: Any) -> str:
    """Say in words how much a model is used."""
    entries = statistics.get("model_stats", []) if isinstance(statistics, dict) else []
    count = sum(int(entry.get("inference_count", 0)) for entry in entries)
    requests = sum(int(entry.get("inference_stats", {}).get("success", {}).get("count", 0)) for entry in entries)
    return (
        f"{requests} requests, {count} inferences since it was loaded" if requests else "no request since it was loaded"
    )


def _ask(url: str, path: str, *, post: bool = False) -> Any:
    request = urllib.request.Request(url + path, data=b"{}" if post else None, method="POST" if post else "GET")  # noqa: S310  (the scheme is checked)
    try:
        with urllib.request.urlopen(request, timeout=_WAIT_S) as answer:  # noqa: S310  (the scheme is checked)
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (400, 404):
            return {}
        raise ServerError(f"{url}{path}: {error}") from error
    except (OSError, ValueError, HTTPException) as error:
        # What is no HTTP at all (gRPC's port) is quoted by its kind: its bytes say nothing.
        said = type(error).__name__ if isinstance(error, HTTPException) else getattr(error, "reason", error)
        raise ServerError(f"{url}{path}: {said}; is this the HTTP port of Triton?") from error
