"""One command to copy for each protocol that is served, on models that are really there."""

import os
import sys
from collections.abc import Mapping
from typing import Any

import orjson

from tritium.cli.options import ServeOptions
from tritium.cli.screen import Endpoint
from tritium.core.catalog import Catalog
from tritium.core.model import Model
from tritium.llm.model import LanguageModel
from tritium.wire.listener import Listener

_LARGEST_SAMPLE = 64
"""Elements; a command with more is not one to copy."""


def endpoints(options: ServeOptions, listeners: Mapping[str, Listener], catalog: Catalog) -> list[Endpoint]:
    """Return what is served, in the order of the ports."""
    rows = []
    for protocol, name, scheme, command in _PROTOCOLS:
        if protocol in listeners:
            host = listeners[protocol].host
            shown = "localhost" if host in ("0.0.0.0", "127.0.0.1", "::") else host  # noqa: S104  (shown, not bound)
            place = f"{shown}:{listeners[protocol].port}"
            certificate = getattr(options, f"{protocol}_cert", "")
            secured = protocol == "grpc" and certificate
            if scheme and certificate:
                scheme = "https://"  # noqa: PLW2901  of this port alone
                own = (
                    " --cert YOUR_CERT.pem --key YOUR_KEY.pem" if getattr(options, f"{protocol}_client_ca", "") else ""
                )
                line = f"{command(scheme + place, catalog)} --cacert {certificate}{own}"
            elif secured:
                line = _grpc_command(place, catalog, _grpc_tls(options))
            else:
                line = command(place, catalog)
            if protocol == "openai" and options.openai_key:
                line += " -H 'Authorization: Bearer YOUR_KEY'"
            address = f"{host}:{listeners[protocol].port}"
            rows.append(Endpoint(name, scheme + place + (" (TLS)" if secured else ""), line, address))
    return rows


def _infer_command(place: str, catalog: Catalog) -> str:
    model = next((m for m in catalog.models() if _sample(m)), None)
    if model is None:
        return f"curl -s {place}/v2/health/ready -o /dev/null -w '%{{http_code}}\\n'"
    body = orjson.dumps({"inputs": _sample(model)}).decode()
    return f"curl -s {place}/v2/models/{model.name}/infer -d '{body}'"


def _grpc_command(place: str, catalog: Catalog, tls: str = "") -> str:  # noqa: ARG001  (one shape for all commands)
    call = f"c.InferenceServerClient('{place}'{tls}).get_server_metadata()"
    python = min(os.path.relpath(sys.executable), sys.executable, key=len)
    return f'{python} -c "import tritonclient.grpc as c; print({call})"'


def _grpc_tls(options: ServeOptions) -> str:
    own = ", private_key='YOUR_KEY.pem', certificate_chain='YOUR_CERT.pem'" if options.grpc_client_ca else ""
    return f", ssl=True, root_certificates='{options.grpc_cert}'{own}"


def _metrics_command(place: str, catalog: Catalog) -> str:  # noqa: ARG001  (one shape for all commands)
    return f"curl -s {place}/metrics"


def _chat_command(place: str, catalog: Catalog) -> str:
    model = next((m for m in catalog.models() if isinstance(m, LanguageModel)), None)
    if model is None:
        return f"curl -s {place}/v1/models"
    body = {"model": model.name, "messages": [{"role": "user", "content": "What is a model repository?"}]}
    return f"curl -s {place}/v1/chat/completions -d '{orjson.dumps(body).decode()}'"


def _ping_command(place: str, catalog: Catalog) -> str:  # noqa: ARG001  (one shape for all commands)
    return f"curl -s {place}/ping -o /dev/null -w '%{{http_code}}\\n'"


def _health_route_command(place: str, catalog: Catalog) -> str:  # noqa: ARG001  (one shape for all commands)
    return f"curl -s {place}{os.environ['AIP_HEALTH_ROUTE']} -o /dev/null -w '%{{http_code}}\\n'"


# A listener's name, the protocol's, the scheme of its URL, and what to copy.
_PROTOCOLS = (
    ("http", "HTTP", "http://", _infer_command),
    ("grpc", "gRPC", "", _grpc_command),
    ("metrics", "metrics", "http://", _metrics_command),
    ("sagemaker", "SageMaker", "http://", _ping_command),
    ("vertex_ai", "Vertex AI", "http://", _health_route_command),
    ("openai", "OpenAI", "http://", _chat_command),
)


def _sample(model: Model) -> list[dict[str, Any]]:
    """Make small inputs of ones for a model, empty where that is not possible."""
    if model.decoupled or isinstance(model, LanguageModel) or model.config.proto.HasField("sequence_batching"):
        return []
    tensors = []
    for spec in model.config.inputs.values():
        if spec.optional:
            continue
        if spec.datatype in ("FP16", "BF16"):
            return []
        shape = [1] * model.config.batches + [max(d, 1) for d in spec.dims]
        count = 1
        for size in shape:
            count *= size
        if count > _LARGEST_SAMPLE:
            return []
        one: Any = {"BYTES": "hello", "BOOL": True}.get(spec.datatype, 1)
        tensors.append({"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": [one] * count})
    return tensors
