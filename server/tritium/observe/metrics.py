"""The metrics endpoint: GET /metrics asks every source and answers in Prometheus' text form."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from tritium.observe.samples import Kind, MetricSource, Sample, render
from tritium.wire.http import Handler, Request, Response

CONTENT_TYPE = b"text/plain; charset=utf-8"

_NOT_ALLOWED = Response(405, ((b"content-type", b"application/json"),), (b'{"error":"Method Not Allowed"}',))
_TEXT = ((b"content-type", CONTENT_TYPE),)
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def page_of(sources: Iterable[MetricSource]) -> Callable[[], str]:
    """Return what writes the page of the sources, in their order."""
    asked = tuple(sources)
    return lambda: render(sample for source in asked for sample in source())


def metrics_handler(sources: Iterable[MetricSource]) -> Handler:
    """Serve the metrics of the sources, in their order; any other path is an empty page, as of Triton."""
    page = page_of(sources)

    async def handle(request: Request) -> Response:
        if request.method != "GET":
            return _NOT_ALLOWED
        return Response(200, _TEXT, (page().encode(),) if request.path == "/metrics" else ())

    return handle


def plain_metrics(
    read: Callable[[], Iterable[tuple[str, Mapping[str, str], float]]], help_texts: Mapping[str, str]
) -> MetricSource:
    """Return the source of (name, labels, value) readings; a name that ends in _total is a counter.

    Readings whose name Prometheus does not allow are left out: they come from engines that name things freely.
    """

    def samples() -> Iterator[Sample]:
        for name, labels, value in read():
            if _NAME.fullmatch(name):
                kind = Kind.COUNTER if name.endswith("_total") else Kind.GAUGE
                yield Sample(name, value, labels, kind, help_texts.get(name, ""))

    return samples
