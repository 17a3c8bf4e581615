"""Spans as a collector gets them: over HTTP, as protobuf, with Triton's names."""

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tritium.core.instance import ExecutionTimes
from tritium.core.trace_settings import OPENTELEMETRY, TraceSettings, TraceSettingsBook
from tritium.observe.trace_spans import TraceSpans

PARENT = "00-0af7651916cd43dd8448eb211c12666c-b7ad6b7169242424-01"
PROCESSOR = (("bsp_max_queue_size", "2048"), ("bsp_schedule_delay", "5000"), ("bsp_max_export_batch_size", "512"))


class Collector:
    """An OTLP collector: parses what it is sent."""

    def __init__(self) -> None:
        self.exports: list[Any] = []
        self.paths: list[str] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.exports.append(ExportTraceServiceRequest.FromString(body))
                collector.paths.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"127.0.0.1:{self._server.server_port}/v1/traces"

    @property
    def spans(self) -> dict[str, Any]:
        """Return the spans of the only export, by name."""
        (export,) = self.exports
        (resource,) = export.resource_spans
        (scope,) = resource.scope_spans
        return {span.name: span for span in scope.spans}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


def trace_one(
    collector: Collector, *options: tuple[str, str], traceparent: str = "", notes: Sequence[str] = ()
) -> TraceSettingsBook:
    """Trace a request to an ensemble of one member, and send it."""
    given = (("url", collector.url), *options, *(pair for pair in PROCESSOR if pair[0] not in dict(options)))
    settings = TraceSettings(("TIMESTAMPS",), rate=1, mode=OPENTELEMETRY, options=given)
    book = TraceSettingsBook(settings, TraceSpans(given))
    trace = book.begin("ens", traceparent, "vendor=1" if traceparent else "")
    assert trace is not None
    trace.mark("HTTP_RECV_START", trace.began_ns)
    outer = trace.root
    outer.start("ens", "1", "r1", trace.began_ns + 10)
    inner = outer.child()
    inner.start("m", "3", "", trace.began_ns + 20)
    inner.enqueue([], trace.began_ns + 21)
    for name in notes:
        inner.note(name)
    inner.execute(trace.began_ns + 30, ExecutionTimes(1, 2, 3))
    inner.end(trace.began_ns + 40)
    outer.end(trace.began_ns + 50)
    trace.mark("HTTP_SEND_END", trace.began_ns + 60)
    trace.close()
    book.close()
    return book


def events(span: Any) -> list[str]:
    return [event.name for event in span.events]


def attributes(holder: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in holder.attributes}


def test_spans_stand_within_each_other(collector: Collector) -> None:
    """The front's, the ensemble's, its member's, and the member's execution; a client told no trace."""
    trace_one(collector)
    spans = collector.spans
    assert set(spans) == {"InferRequest", "ens", "m", "compute"}
    assert spans["InferRequest"].parent_span_id == b""
    assert spans["ens"].parent_span_id == spans["InferRequest"].span_id
    assert spans["m"].parent_span_id == spans["ens"].span_id
    assert spans["compute"].parent_span_id == spans["m"].span_id
    assert len({span.span_id for span in spans.values()}) == 4
    assert len({span.trace_id for span in spans.values()}) == 1
    assert {span.kind for span in spans.values()} == {2}, "all are a server's"
    assert collector.paths == ["/v1/traces"]


def test_events_and_attributes_are_tritons(collector: Collector) -> None:
    """Each span has the moments of its own level; a model's span says which request it was."""
    trace_one(collector)
    spans = collector.spans
    assert events(spans["InferRequest"]) == ["HTTP_RECV_START", "HTTP_SEND_END"]
    assert events(spans["ens"]) == ["REQUEST_START", "REQUEST_END"]
    assert events(spans["m"]) == ["REQUEST_START", "QUEUE_START", "REQUEST_END"]
    assert events(spans["compute"]) == ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]
    compute = spans["compute"]
    assert compute.end_time_unix_nano - compute.start_time_unix_nano == 6
    outer, inner = attributes(spans["ens"]), attributes(spans["m"])
    assert (outer["triton.model_name"], outer["triton.model_version"], outer["triton.request_id"]) == ("ens", 1, "r1")
    assert (inner["triton.trace_parent_id"], outer["triton.trace_parent_id"]) == (outer["triton.trace_id"], 0)
    assert "triton.request_id" not in inner


def test_a_clients_trace_goes_on(collector: Collector) -> None:
    """Its trace id is ours, its span the parent of all."""
    trace_one(collector, traceparent=PARENT)
    root = collector.spans["InferRequest"]
    assert root.trace_id.hex() == "0af7651916cd43dd8448eb211c12666c"
    assert root.parent_span_id.hex() == "b7ad6b7169242424"
    assert root.trace_state == "vendor=1"


def test_the_resource_is_what_the_options_say(collector: Collector) -> None:
    """`resource=KEY=VALUE`, any number; the service has Triton's name unless one is given."""
    trace_one(collector, ("resource", "test.key=test.value"), ("resource", "service.name=mine"))
    (export,) = collector.exports
    resource = attributes(export.resource_spans[0].resource)
    assert (resource["test.key"], resource["service.name"]) == ("test.value", "mine")


def test_without_options_the_service_is_triton(collector: Collector) -> None:
    """As dashboards made for it expect; the scope is its, too."""
    trace_one(collector)
    (export,) = collector.exports
    (resource,) = export.resource_spans
    assert attributes(resource.resource)["service.name"] == "triton-inference-server"
    assert resource.scope_spans[0].scope.name == "triton-server"


def test_spans_can_be_sent_in_small_batches(collector: Collector) -> None:
    """bsp_max_export_batch_size bounds an export."""
    trace_one(collector, ("bsp_max_export_batch_size", "1"))
    assert [len(export.resource_spans[0].scope_spans[0].spans) for export in collector.exports] == [1, 1, 1, 1]


def test_what_a_backend_notes_are_spans_within_its_requests(collector: Collector) -> None:
    """NAME_START and NAME_END are the ends of one; what is noted within is an event of the innermost."""
    trace_one(collector, notes=["ONE", "A_START", "B_START", "TWO", "B_END", "A_END", "LONE_END"])
    spans = collector.spans
    assert spans["A"].parent_span_id == spans["m"].span_id
    assert spans["B"].parent_span_id == spans["A"].span_id
    assert events(spans["A"]) == ["A_START", "A_END"]
    assert events(spans["B"]) == ["B_START", "TWO", "B_END"]
    assert set(events(spans["m"])) == {"REQUEST_START", "QUEUE_START", "ONE", "LONE_END", "REQUEST_END"}
