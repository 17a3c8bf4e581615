"""Rules of the probes that watch the server."""

import re
from collections.abc import Iterator

from tritium.migration.deployment import Deployment, Launch
from tritium.migration.finding import Finding, Severity
from tritium.migration.launches.container import Container
from tritium.migration.launches.format import Format
from tritium.migration.launches.image import Role
from tritium.migration.rules.rule import Rule, replacement
from tritium.migration.text.edit import Edit, Fix
from tritium.migration.text.source import Source, Span
from tritium.migration.text.tree import Mapping, Scalar

_PROSE = {Format.DOCUMENT}
_LANGUAGE = ("vllm", "trtllm")
_PERIOD_S = 10
_PATIENCE = 180
"""How often a startup probe may fail: loading and compiling take up to half an hour."""


class Probes(Rule):
    """A probe asks for a path of Triton's first API, or kills a server that is still loading a language model.

    `/v2/health/live` and `/v2/health/ready` stay as they are. `/api/health/...` left Triton with version 2; the probe
    has failed ever since. A container with a language model and a liveness probe gains a startup probe, which waits
    half an hour for the model: a checkpoint takes longer to load than a compiled engine.

    Before deployment.yaml:

        kind: Deployment
        spec:
          template:
            spec:
              containers:
              - name: triton
                image: nvcr.io/nvidia/tritonserver:24.01-trtllm-python-py3
                livenessProbe:
                  httpGet: { path: /api/health/live, port: 8000 }

    After deployment.yaml:

        kind: Deployment
        spec:
          template:
            spec:
              containers:
              - name: triton
                image: nvcr.io/nvidia/tritonserver:24.01-trtllm-python-py3
                startupProbe:
                  httpGet:
                    path: /v2/health/ready
                    port: 8000
                  periodSeconds: 10
                  failureThreshold: 180
                livenessProbe:
                  httpGet: { path: /v2/health/live, port: 8000 }
    """

    id = "L07"
    severity = Severity.CHANGE

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find health paths of the first API, and language models that are given no time to start."""
        for launch in deployment.launches:
            for match in re.finditer(r"/api/health/(live|ready)\b", launch.source.text):
                span = Span(*match.span())
                fix = None if launch.format in _PROSE else replacement(launch.source, span, f"/v2/health/{match[1]}")
                message = f"{match.group()} is not answered since Triton 2"
                yield self.at(launch.source, span, message, f"ask for /v2/health/{match[1]}", fix=fix, already=True)
            for container in launch.containers:
                if _is_language(launch, container) and (found := _startup(launch.source, container.node)) is not None:
                    span, fix = found
                    message = f"container '{container.name}' is given no time of its own to load a language model"
                    advice = "give it a startupProbe, so that the liveness probe does not end it while it loads"
                    yield self.at(launch.source, span, message, advice, fix=fix)


def _is_language(launch: Launch, container: Container) -> bool:
    image = container.image
    flavours = {one.flavour for one in launch.images if image is not None and one.span == image.span}
    served = any(one.role is Role.SERVER for one in launch.images)
    return served and bool(flavours & set(_LANGUAGE)) and not container.node.has("startupProbe")


def _startup(source: Source, container: Mapping) -> tuple[Span, Fix] | None:
    """Return where a liveness probe stands, and a startup probe before it that asks the same port."""
    port = container.get("livenessProbe", "httpGet", "port")
    key = next((key for key, _ in container.entries if key.text == "livenessProbe"), None)
    if not isinstance(port, Scalar) or key is None:
        return None
    begin = source.text.rfind("\n", 0, key.span.start) + 1
    indent = source.text[begin : key.span.start]
    if indent.strip():
        return None
    newline = "\r\n" if "\r\n" in source.text else "\n"
    lines = (
        *("startupProbe:", "  httpGet:", "    path: /v2/health/ready", f"    port: {port.text}"),
        *(f"  periodSeconds: {_PERIOD_S}", f"  failureThreshold: {_PATIENCE}"),
    )
    text = "".join(f"{line}{newline}{indent}" for line in lines)
    return key.span, Fix((Edit(source.path, Span(key.span.start, key.span.start), text),))


RULES = (Probes,)
