"""ORCA: how busy the KV cache is, told to a load balancer in a header of every generate response.

A request with `endpoint-load-metrics-format: text` (or json) is answered with `endpoint-load-metrics`. The figures
are read from the server's own Prometheus page, where TensorRT-LLM's backend and ours put them.
Source: server/src/orca_http.cc, 2.73.
"""

import json
import re

from tritium.http.front import LoadReport
from tritium.wire.http import Headers

REQUEST_HEADER = b"endpoint-load-metrics-format"
_RESPONSE_HEADER = b"endpoint-load-metrics"

_FAMILY = "nv_trt_llm_kv_cache_block_metrics"
_SAMPLE = re.compile(_FAMILY + r"\{(?P<labels>[^}]*)\}\s+(?P<value>\S+)")
_KIND = re.compile(r'kv_cache_block_type="(?P<kind>[^"]*)"')


def headers(wanted: bytes, report: LoadReport) -> Headers:
    """Write the header in the format that is wanted; none where the format or the figures are not known."""
    if wanted not in (b"text", b"json"):
        return ()
    metrics = _metrics(report())
    if not metrics:
        return ()
    if wanted == b"json":
        value = "JSON " + json.dumps({"named_metrics": metrics}, separators=(",", ":"))
    else:
        value = "TEXT " + ", ".join(f"named_metrics.{name}={_plain(number)}" for name, number in metrics.items())
    return ((_RESPONSE_HEADER, value.encode()),)


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:f}"


def _metrics(page: str) -> dict[str, float]:
    """Work the two figures of ORCA out of the counts of blocks."""
    counts = {
        kind["kind"]: float(match["value"])
        for match in _SAMPLE.finditer(page)
        if (kind := _KIND.search(match["labels"])) is not None
    }
    if not {"max", "used", "tokens_per"} <= counts.keys():
        return {}
    return {
        "kv_cache_utilization": counts["used"] / counts["max"] if counts["max"] else 0.0,
        "max_token_capacity": int(counts["max"] * counts["tokens_per"]),
    }
