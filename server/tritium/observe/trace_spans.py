"""Traces as OpenTelemetry spans, sent to a collector by OTLP over HTTP; needs the extra `otel`.

    InferRequest             what the front saw        the client's span is its parent, if it told one
    `- MODEL                 REQUEST_START ... _END
       |- compute            COMPUTE_START ... _END
       |- NAME               of a backend that notes NAME_START and NAME_END
       `- MEMBER ...         of an ensemble, or of a model that calls others

Names of spans, events and attributes are Triton's. Spans are made when a trace is finished: until then a traced
request costs what its moments cost. Source: server/src/tracer.cc, 2.73.
"""

import secrets
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState

from tritium.core.trace import COMPUTE_MOMENTS, REQUEST_MOMENTS, Moment, Trace, TracedRequest
from tritium.core.trace_settings import Sampling

_SCOPE: Final = InstrumentationScope("triton-server")
_SERVICE: Final = "triton-inference-server"
DEFAULT_URL: Final = "http://localhost:4318/v1/traces"


class TraceSpans:
    """Sends finished traces; see `core.trace_settings.TraceSink`."""

    def __init__(self, options: Sequence[tuple[str, str]]) -> None:
        """Take the options of --trace-config opentelemetry,NAME=VALUE."""
        given = dict(options)
        self._resource = Resource.create({"service.name": _SERVICE, **resource_attributes(options)})
        self._processor = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=_url(given.get("url", ""))),
            max_queue_size=int(given["bsp_max_queue_size"]),
            schedule_delay_millis=max(1, int(given["bsp_schedule_delay"])),
            max_export_batch_size=min(int(given["bsp_max_export_batch_size"]), int(given["bsp_max_queue_size"])),
        )

    def keep(self, trace: Trace, sampling: Sampling) -> None:  # noqa: ARG002 - all settings send to one place
        """Hand the spans of a trace to the processor, which sends them from a thread of its own."""
        for span in spans(trace, self._resource):
            self._processor.on_end(span)

    def retire(self, sampling: Sampling) -> None:
        """Do nothing: every trace was sent as it was finished."""

    def close(self) -> None:
        """Send what waits."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # it is the SDK's


def resource_attributes(options: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Return the attributes that `resource=KEY=VALUE` options give."""
    pairs = (value.partition("=") for name, value in options if name == "resource")
    return {key: value for key, _, value in pairs}


def spans(trace: Trace, resource: Resource) -> Iterator[ReadableSpan]:
    """Yield the spans of a trace, those within others first, as spans end."""
    maker = _Maker(trace, resource)
    by_id = {request.id: request for request in trace.requests}
    for request in reversed(trace.requests):
        moments = [moment for moment in request.moments if isinstance(moment, Moment) and not moment.of_front]
        if not moments:
            continue
        compute = [moment for moment in moments if moment.name in COMPUTE_MOMENTS]
        if compute:
            yield maker.span("compute", secrets.token_hex(8), request.span_id, compute, {})
        backends = [moment for moment in moments if moment.name not in (*REQUEST_MOMENTS, *COMPUTE_MOMENTS)]
        loose = yield from _backend_spans(maker, request.span_id, backends)
        own = sorted((*(moment for moment in moments if moment.name in REQUEST_MOMENTS), *loose), key=lambda m: m.ns)
        parent = by_id.get(request.parent_id)
        yield maker.span(
            request.model_name,
            request.span_id,
            parent.span_id if parent else trace.span_id,
            own,
            _attributes(request),
        )
    of_front = [moment for moment in trace.root.moments if isinstance(moment, Moment) and moment.of_front]
    above = trace.parent.span_id if trace.parent else ""
    yield maker.span("InferRequest", trace.span_id, above, of_front, {}, trace.began_ns, trace.ended_ns)


def _backend_spans(
    maker: "_Maker", parent_id: str, moments: Sequence[Moment]
) -> Generator[ReadableSpan, None, list[Moment]]:
    """Yield the spans between a backend's NAME_START and NAME_END; return the moments outside of any."""
    loose: list[Moment] = []
    around: list[_Open] = [_Open("", parent_id, loose)]
    for moment in moments:
        name = moment.name.removesuffix("_START")
        if name != moment.name:
            around.append(_Open(name, secrets.token_hex(8), [moment]))
            continue
        around[-1].moments.append(moment)
        if moment.name.endswith("_END") and len(around) > 1:
            ended = around.pop()
            yield maker.span(ended.name, ended.span_id, around[-1].span_id, ended.moments, {})
    return loose


class _Open(NamedTuple):
    """A span that has begun, or the one around all."""

    name: str
    span_id: str
    moments: list[Moment]


class _Maker:
    """Makes the spans of one trace."""

    def __init__(self, trace: Trace, resource: Resource) -> None:
        self._trace = trace
        self._resource = resource
        parent = trace.parent
        self._remote = parent.span_id if parent else ""
        self._flags = TraceFlags(int(parent.flags, 16) | TraceFlags.SAMPLED if parent else TraceFlags.SAMPLED)
        self._state = TraceState.from_header([parent.state]) if parent and parent.state else TraceState()

    def span(
        self,
        name: str,
        span_id: str,
        parent_id: str,
        moments: Sequence[Moment],
        attributes: Mapping[str, str | int],
        start_ns: int = 0,
        end_ns: int = 0,
    ) -> ReadableSpan:
        offset_ns = self._trace.offset_ns
        events = [Event(moment.name, timestamp=moment.ns + offset_ns) for moment in moments]
        return ReadableSpan(
            name,
            self._context(span_id, remote=False),
            self._context(parent_id, remote=parent_id == self._remote) if parent_id else None,
            self._resource,
            attributes,
            events,
            kind=SpanKind.SERVER,
            start_time=(start_ns or moments[0].ns) + offset_ns,
            end_time=(end_ns or moments[-1].ns) + offset_ns,
            instrumentation_scope=_SCOPE,
        )

    def _context(self, span_id: str, *, remote: bool) -> SpanContext:
        return SpanContext(int(self._trace.trace_id, 16), int(span_id, 16), remote, self._flags, self._state)


def _attributes(request: TracedRequest) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "triton.model_name": request.model_name,
        "triton.model_version": int(request.model_version),
        "triton.trace_id": request.id,
        "triton.trace_parent_id": request.parent_id,
    }
    return attributes | ({"triton.request_id": request.request_id} if request.request_id else {})


def _url(url: str) -> str:
    """Return where to send to; Triton's users write it without a scheme."""
    if not url:
        return DEFAULT_URL
    return url if "://" in url else f"http://{url}"
