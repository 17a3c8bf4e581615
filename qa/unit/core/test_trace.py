"""A traced request's moments, those of the requests it leads to, and when its trace is finished."""

import asyncio
from dataclasses import dataclass, field
from types import ModuleType

import pytest

from tritium.compat.v2.trace_setting import TraceUpdate
from tritium.core.ensemble import EnsembleModel
from tritium.core.front_span import HTTP, begin_front_span
from tritium.core.request import InferRequest
from tritium.core.tensor_model import TensorModel
from tritium.core.trace import Context, Moment, Trace, TracedRequest, TracedTensor, read_traceparent
from tritium.core.trace_settings import OPENTELEMETRY, Sampling, TraceSettings, TraceSettingsBook

FRONT = ["HTTP_RECV_START", "HTTP_RECV_END", "INFER_RESPONSE_COMPLETE", "HTTP_SEND_START", "HTTP_SEND_END"]
REQUEST = ["REQUEST_START", "QUEUE_START"]
COMPUTE = ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]
EVERYTHING = TraceSettings(("TIMESTAMPS", "TENSORS"), rate=1, file="t")


@dataclass
class Sink:
    """Keeps finished traces, and the settings that were retired."""

    traces: list[Trace] = field(default_factory=list)
    retired: list[Sampling] = field(default_factory=list)
    closed: bool = False
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, trace: Trace, sampling: Sampling) -> None:
        self.traces.append(trace)
        self.came.set()

    def retire(self, sampling: Sampling) -> None:
        self.retired.append(sampling)

    def close(self) -> None:
        self.closed = True

    async def trace(self) -> Trace:
        await asyncio.wait_for(self.came.wait(), 60)
        (trace,) = self.traces
        return trace


def names(traced: TracedRequest, *, of_front: bool) -> list[str]:
    moments = [moment for moment in traced.moments if isinstance(moment, Moment)]
    return [moment.name for moment in moments if moment.of_front is of_front]


def tensors(traced: TracedRequest) -> list[tuple[str, str]]:
    return [(seen.activity, seen.tensor.name) for seen in traced.moments if isinstance(seen, TracedTensor)]


def add_sub(fakes: ModuleType) -> InferRequest:
    inference: InferRequest = fakes.request(*(fakes.tensor(f"INPUT{n}", (4,)) for n in range(2)), id="r7")
    return inference


async def test_a_request_is_traced_from_its_front_to_its_end(fakes: ModuleType) -> None:
    """Moments of the front and of the model, tensors where they are wanted, model and request by name."""
    sink = Sink()
    book = TraceSettingsBook(EVERYTHING, sink)
    model = TensorModel(fakes.config(fakes.ADD_SUB), "3", [fakes.FakeInstance()])
    inference, reply = add_sub(fakes), fakes.Collector()
    span = begin_front_span(book, "add_sub", HTTP)
    assert span is not None
    model.submit(inference, span.watch(inference, reply))
    await reply.one()
    trace = await sink.trace()
    (traced,) = trace.requests
    assert (traced.model_name, traced.model_version, traced.request_id, traced.parent_id) == ("add_sub", "3", "r7", 0)
    assert names(traced, of_front=True) == FRONT
    assert names(traced, of_front=False) == [*REQUEST, *COMPUTE, "REQUEST_END"]
    assert tensors(traced) == [
        *(
            (activity, name)
            for activity in ("TENSOR_QUEUE_INPUT", "TENSOR_BACKEND_INPUT")
            for name in ("INPUT0", "INPUT1")
        ),
        ("TENSOR_BACKEND_OUTPUT", "OUTPUT0"),
        ("TENSOR_BACKEND_OUTPUT", "OUTPUT1"),
    ]
    await model.close()


async def test_what_is_not_wanted_is_not_kept(fakes: ModuleType) -> None:
    """Timestamps alone keep no tensor."""
    sink = Sink()
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [fakes.FakeInstance()])
    inference, reply = add_sub(fakes), fakes.Collector()
    span = begin_front_span(TraceSettingsBook(TraceSettings(("TIMESTAMPS",), rate=1, file="t"), sink), "add_sub", HTTP)
    assert span is not None
    model.submit(inference, span.watch(inference, reply))
    await reply.one()
    assert tensors((await sink.trace()).requests[0]) == []
    await model.close()


async def test_members_of_an_ensemble_are_children_of_its_request(fakes: ModuleType) -> None:
    """Each with its own moments; the ensemble itself computes nothing."""
    sink = Sink()
    member = TensorModel(fakes.config(fakes.ADD_SUB), "1", [fakes.FakeInstance()])
    pbtxt = """
        input [ { name: "A" data_type: TYPE_FP32 dims: 4 }, { name: "B" data_type: TYPE_FP32 dims: 4 } ]
        output [ { name: "C" data_type: TYPE_FP32 dims: 4 } ]
        ensemble_scheduling { step [ {
            model_name: "add_sub" model_version: -1
            input_map { key: "INPUT0" value: "A" } input_map { key: "INPUT1" value: "B" }
            output_map { key: "OUTPUT0" value: "C" } } ] }
    """
    ensemble = EnsembleModel(fakes.config(pbtxt, "pair"), "1", lambda name, version: member)
    inference, reply = fakes.request(fakes.tensor("A", (4,)), fakes.tensor("B", (4,))), fakes.Collector()
    span = begin_front_span(TraceSettingsBook(EVERYTHING, sink), "pair", HTTP)
    assert span is not None
    ensemble.submit(inference, span.watch(inference, reply))
    await reply.one()
    trace = await sink.trace()
    outer, inner = trace.requests
    assert (outer.model_name, outer.parent_id) == ("pair", 0)
    assert (inner.model_name, inner.parent_id) == ("add_sub", outer.id)
    assert names(outer, of_front=False) == [*REQUEST, "REQUEST_END"]
    assert names(inner, of_front=False) == [*REQUEST, *COMPUTE, "REQUEST_END"]
    await member.close()


async def test_a_request_that_is_refused_still_finishes_its_trace(fakes: ModuleType) -> None:
    """A wrong one never reaches a model; one without an instance is answered by the queue."""
    for inputs, expected in (((), []), (("INPUT0", "INPUT1"), [*REQUEST, "REQUEST_END"])):
        sink = Sink()
        instance = fakes.FakeInstance()
        instance.healthy = False
        model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [instance])
        inference, reply = fakes.request(*(fakes.tensor(name, (4,)) for name in inputs)), fakes.Collector()
        span = begin_front_span(TraceSettingsBook(EVERYTHING, sink), "add_sub", HTTP)
        assert span is not None
        model.submit(inference, span.watch(inference, reply))
        await reply.one()
        assert names((await sink.trace()).requests[0], of_front=False) == expected


async def test_a_front_that_submits_nothing_closes_its_trace() -> None:
    """Once, however often it says so."""
    sink = Sink()
    span = begin_front_span(TraceSettingsBook(EVERYTHING, sink), "m", HTTP)
    assert span is not None
    span.close()
    span.close()
    assert names((await sink.trace()).root, of_front=True) == FRONT[:2]


def sampled(book: TraceSettingsBook, requests: int, model: str = "m", traceparent: str = "") -> list[int]:
    """Return which of some requests are traced."""
    traces = [book.begin(model, traceparent) for _ in range(requests)]
    for trace in traces:
        if trace is not None:
            trace.close()
    return [n for n, trace in enumerate(traces, 1) if trace is not None]


def test_one_in_so_many_requests_is_traced() -> None:
    """Counted by the settings that apply: a model with settings of its own counts for itself."""
    book = TraceSettingsBook(TraceSettings(("TIMESTAMPS",), rate=3, file="t"))
    book.update("own", TraceUpdate(rate=2))
    assert sampled(book, 7) == [3, 6]
    assert sampled(book, 4, "own") == [2, 4]
    assert sampled(book, 2, "other") == [2]


def test_a_count_is_used_up_and_shown() -> None:
    """What is left of it is what the settings say; a new one begins anew."""
    book = TraceSettingsBook(TraceSettings(("TIMESTAMPS",), rate=2, count=2, file="t"))
    assert sampled(book, 3) == [2]
    assert book.settings().count == 1
    assert sampled(book, 6) == [1]
    assert book.settings().count == 0
    book.update("", TraceUpdate(count=5, rate=1))
    assert sampled(book, 2) == [1, 2]
    assert book.settings().count == 3


def test_nothing_is_traced_while_the_level_is_off() -> None:
    """And fronts are told that they need not ask."""
    book = TraceSettingsBook(TraceSettings(rate=1, file="t"))
    assert not book.on
    assert sampled(book, 2) == []
    book.update("m", TraceUpdate(level=("TIMESTAMPS",)))
    assert book.on
    assert (sampled(book, 1), sampled(book, 1, "other")) == ([1], [])
    book.update("m", TraceUpdate(level=()))
    assert not book.on


PARENT = "00-0af7651916cd43dd8448eb211c12666c-b7ad6b7169242424-01"


def test_who_traces_a_request_has_it_traced() -> None:
    """In OpenTelemetry's mode a client's own trace goes on here, whatever rate and count say."""
    book = TraceSettingsBook(TraceSettings(("TIMESTAMPS",), rate=0, mode=OPENTELEMETRY))
    assert sampled(book, 3) == []
    assert sampled(book, 2, traceparent=PARENT) == [1, 2]
    used_up = TraceSettingsBook(TraceSettings(("TIMESTAMPS",), rate=1, count=0, mode=OPENTELEMETRY))
    assert sampled(used_up, 2, traceparent=PARENT) == [1, 2]
    files = TraceSettingsBook(TraceSettings(("TIMESTAMPS",), rate=1000, file="t"))
    assert sampled(files, 2, traceparent=PARENT) == []


def test_settings_that_were_replaced_are_retired_when_their_last_trace_is_finished() -> None:
    """Until then what they collected is not complete."""
    sink = Sink.__new__(Sink)
    sink.traces, sink.retired, sink.closed, sink.came = [], [], False, asyncio.Event()
    book = TraceSettingsBook(EVERYTHING, sink)
    trace = book.begin("m")
    assert trace is not None
    book.update("", TraceUpdate(rate=5))
    assert sink.retired == []
    trace.close()
    (retired,) = sink.retired
    assert (retired.settings.rate, retired.collected) == (1, 1)
    book.close()
    assert sink.closed


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        "00-0af7651916cd43dd8448eb211c12666c-b7ad6b7169242424",
        "00-00000000000000000000000000000000-b7ad6b7169242424-01",
        "00-0af7651916cd43dd8448eb211c12666c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c12666c-b7ad6b7169242424-01",
        "00-0AF7651916cd43dd8448eb211c12666c-b7ad6b7169242424-01",
        "00-0af7651916cd43dd8448eb211c12666c-b7ad6b7169242424-01-more",
    ],
)
def test_what_is_no_trace_context_is_none(header: str) -> None:
    """As W3C defines it."""
    assert read_traceparent(header) is None


def test_a_trace_context_is_read_and_passed_on() -> None:
    """A request that is part of a client's trace tells models its own place in it."""
    context = read_traceparent(PARENT, "vendor=1")
    assert context == Context("0af7651916cd43dd8448eb211c12666c", "b7ad6b7169242424", "01", "vendor=1")
    book = TraceSettingsBook(TraceSettings(("TIMESTAMPS",), rate=1, mode=OPENTELEMETRY))
    trace = book.begin("m", PARENT, "vendor=1")
    assert trace is not None
    assert trace.root.context == (
        f'{{"traceparent":"00-{context.trace_id}-{trace.root.span_id}-01","tracestate":"vendor=1"}}'
    )
    in_files = TraceSettingsBook(EVERYTHING).begin("m")
    assert in_files is not None
    assert in_files.root.context == ""
