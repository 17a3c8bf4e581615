"""Metrics as Prometheus reads them: Triton's names of models, the machine's, models' own."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from google.protobuf import text_format

from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.model import Model
from tritium.core.request import InferRequest, Reply
from tritium.core.scheduler.plan import Reason
from tritium.core.statistics import Duration, Statistics
from tritium.observe.custom import custom_metrics
from tritium.observe.machine import Machine, pinned_memory, process
from tritium.observe.metrics import metrics_handler, plain_metrics
from tritium.observe.models import model_metrics
from tritium.observe.samples import Kind, MetricSource, Sample, number, render
from tritium.wire.http import Headers, Response, Stream


class Counted(Model):
    """A model that is nothing but its statistics."""

    def __init__(self, name: str, statistics: Statistics, pbtxt: str = "") -> None:
        self.name = name
        self.version = "1"
        self.config = from_proto(text_format.Parse(pbtxt, model_config_pb2.ModelConfig(name=name)))
        self.statistics = statistics

    @property
    def ready(self) -> bool:
        return True

    def submit(self, request: InferRequest, reply: Reply) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


@dataclass
class Get:
    """A request without a body."""

    path: str = "/metrics"
    method: str = "GET"
    query: str = ""
    headers: Headers = ()
    body: bytes = b""
    peer: str = ""

    def header(self, name: bytes, default: bytes = b"") -> bytes:
        return default

    def on_disconnect(self, callback: object) -> None: ...

    def stream(self, status: int, headers: Headers) -> Stream:
        raise NotImplementedError


def scrape(models: list[Model], sources: Iterable[MetricSource] = (), request: Get | None = None) -> Response:
    """Ask the endpoint once."""
    response = asyncio.run(_answer(models, sources, request or Get()))
    assert response is not None
    return response


async def _answer(models: list[Model], sources: Iterable[MetricSource], request: Get) -> Response | None:
    return await metrics_handler([model_metrics(lambda: models), *sources])(request)


def lines(response: Response) -> list[str]:
    return bytes(response.body[0]).decode().splitlines()


BUSY = Statistics(
    inference_count=66,
    execution_count=10,
    pending=3,
    load_seconds=0.25,
    success=Duration(10, 11_172_622_912),
    queue=Duration(10, 7_842_297_951),
    compute_input=Duration(10, 751_896),
    compute_infer=Duration(10, 3_326_092_689),
    compute_output=Duration(10, 3_401_759),
    failures={"BACKEND": 2},
    cuts={Reason.FULL: 4},
)

EXPECTED = """\
# HELP nv_inference_request_failure Number of failed inference requests, all batch sizes
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="prio",reason="REJECTED",version="1"} 0
nv_inference_request_failure{model="prio",reason="CANCELED",version="1"} 0
nv_inference_request_failure{model="prio",reason="BACKEND",version="1"} 2
nv_inference_request_failure{model="prio",reason="OTHER",version="1"} 0
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="prio",version="1"} 10
# HELP nv_inference_count Number of inferences performed (does not include cached requests)
# TYPE nv_inference_count counter
nv_inference_count{model="prio",version="1"} 66
# HELP nv_inference_exec_count Number of model executions performed (does not include cached requests)
# TYPE nv_inference_exec_count counter
nv_inference_exec_count{model="prio",version="1"} 10
# HELP nv_inference_request_duration_us Cumulative inference request duration in microseconds (includes cached requests)
# TYPE nv_inference_request_duration_us counter
nv_inference_request_duration_us{model="prio",version="1"} 11172622
# HELP nv_inference_queue_duration_us Cumulative inference queuing duration in microseconds (includes cached requests)
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{model="prio",version="1"} 7842297
# HELP nv_inference_compute_input_duration_us Cumulative compute input duration in microseconds (does not include \
cached requests)
# TYPE nv_inference_compute_input_duration_us counter
nv_inference_compute_input_duration_us{model="prio",version="1"} 751
# HELP nv_inference_compute_infer_duration_us Cumulative compute inference duration in microseconds (does not include \
cached requests)
# TYPE nv_inference_compute_infer_duration_us counter
nv_inference_compute_infer_duration_us{model="prio",version="1"} 3326092
# HELP nv_inference_compute_output_duration_us Cumulative inference compute output duration in microseconds (does not \
include cached requests)
# TYPE nv_inference_compute_output_duration_us counter
nv_inference_compute_output_duration_us{model="prio",version="1"} 3401
# HELP nv_inference_pending_request_count Instantaneous number of pending requests awaiting execution per-model.
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="prio",version="1"} 3
# HELP nv_model_load_duration_secs Model load time in seconds
# TYPE nv_model_load_duration_secs gauge
nv_model_load_duration_secs{model="prio",version="1"} 0.25
# HELP tritium_batch_cut_total Batches of the dynamic batcher, by why they were not larger
# TYPE tritium_batch_cut_total counter
tritium_batch_cut_total{model="prio",reason="full",version="1"} 4
"""


def test_model_metrics_are_tritons() -> None:
    """Names, HELP, TYPE, labels and units are those of a real Triton."""
    response = scrape([Counted("prio", BUSY)])
    assert response.status == 200
    assert dict(response.headers) == {b"content-type": b"text/plain; charset=utf-8"}
    expected = EXPECTED.splitlines()
    assert lines(response)[: len(expected)] == expected


def test_families_are_not_interleaved() -> None:
    """All models of a family stand together, under one HELP."""
    text = lines(scrape([Counted("a", Statistics()), Counted("b", Statistics())]))
    assert text.count("# TYPE nv_inference_count counter") == 1
    at = text.index('nv_inference_count{model="a",version="1"} 0')
    assert text[at + 1] == 'nv_inference_count{model="b",version="1"} 0'


def test_metric_tags_become_labels() -> None:
    """`metric_tags` of a configuration are labels with a leading underscore."""
    tagged = Counted("m", Statistics(), 'metric_tags { key: "team" value: "vision" }')
    assert 'nv_inference_count{_team="vision",model="m",version="1"} 0' in lines(scrape([tagged]))


def test_machine_metrics() -> None:
    """CPU and memory of the machine are there, with Triton's names, and within their bounds."""
    values = {
        line.split()[0]: float(line.split()[1]) for line in lines(scrape([], [Machine(), process])) if line[0] != "#"
    }
    assert 0 <= values["nv_cpu_utilization"] <= 1
    assert 0 < values["nv_cpu_memory_used_bytes"] < values["nv_cpu_memory_total_bytes"]
    assert values["process_resident_memory_bytes"] > 1 << 20
    assert values["process_open_fds"] > 2


def test_the_pool_of_pinned_memory_is_as_large_as_asked_for_and_unused() -> None:
    """Triton's two gauges, without labels."""
    assert lines(scrape([], [pinned_memory(1024)]))[-6:] == [
        "# HELP nv_pinned_memory_pool_total_bytes Pinned memory pool total memory size, in bytes",
        "# TYPE nv_pinned_memory_pool_total_bytes gauge",
        "nv_pinned_memory_pool_total_bytes 1024",
        "# HELP nv_pinned_memory_pool_used_bytes Pinned memory pool used memory size, in bytes",
        "# TYPE nv_pinned_memory_pool_used_bytes gauge",
        "nv_pinned_memory_pool_used_bytes 0",
    ]


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Return a /proc of a machine that has done nothing yet."""
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 400 kB\n")
    (tmp_path / "stat").write_text("cpu 10 0 10 80 0 0 0 0 0 0\n")
    return tmp_path


def test_cpu_utilization_is_that_since_the_last_scrape(proc: Path) -> None:
    """Idle and waiting time count as free, everything else as used."""
    machine = Machine(proc=proc)
    (proc / "stat").write_text("cpu 30 0 10 130 10 0 0 20 0 0\n")
    values = {sample.family: sample.value for sample in machine()}
    assert values["nv_cpu_utilization"] == 0.4
    assert values["nv_cpu_memory_used_bytes"] == 600 * 1024


def test_the_machine_is_looked_at_once_an_interval(proc: Path) -> None:
    """Scrapes that follow each other closely give the same values."""
    now = [100.0]
    machine = Machine(2.0, proc=proc, now_s=lambda: now[0])

    def utilization() -> float:
        return next(sample.value for sample in machine() if sample.family == "nv_cpu_utilization")

    (proc / "stat").write_text("cpu 20 0 10 80 0 0 0 0 0 0\n")
    assert utilization() == 1.0
    (proc / "stat").write_text("cpu 20 0 10 180 0 0 0 0 0 0\n")
    now[0] = 101.9
    assert utilization() == 1.0
    now[0] = 102.0
    assert utilization() == 0.0


def test_no_proc_no_machine_metrics(tmp_path: Path) -> None:
    """A system without /proc still has the models' metrics."""
    assert list(Machine(proc=tmp_path)()) == []
    assert list(process(tmp_path)) == []


@pytest.mark.parametrize("path", ["/", "/v2"])
def test_any_other_path_is_an_empty_page(path: str) -> None:
    """As of Triton, whose metrics port some ask for whether it is there."""
    response = scrape([], request=Get(path))
    assert (response.status, response.body) == (200, ())


def test_only_get_is_served() -> None:
    """Other methods are refused."""
    assert scrape([], request=Get(method="POST")).status == 405


def test_escapes_and_numbers() -> None:
    """Label values and HELP are escaped; whole numbers have no point, special ones Prometheus' names."""
    assert render([Sample("f", 1, {"l": 'a"b\\c\nd'}, Kind.GAUGE, "x\ny")]) == (
        '# HELP f x\\ny\n# TYPE f gauge\nf{l="a\\"b\\\\c\\nd"} 1\n'
    )
    shown = [number(v) for v in (3.0, 0.5, 1e20, float("inf"), float("-inf"), float("nan"), -2)]
    assert shown == ["3", "0.5", "100000000000000000000", "+Inf", "-Inf", "Nan", "-2"]


@dataclass
class Custom:
    """A metric of a model, by the shape in which backends keep them."""

    family: str
    kind: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str = "d"
    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


def test_custom_metrics() -> None:
    """Counters and gauges come out as they are; a histogram's buckets are cumulative."""
    metrics = [
        Custom("hits", "counter", 2.0, {"model": "m"}),
        Custom("wait", "histogram", 7.5, {"model": "m"}, bounds=(0.1, 1.0), counts=(1, 0, 2)),
    ]
    text = render(custom_metrics(metrics)())
    assert text == (
        '# HELP hits d\n# TYPE hits counter\nhits{model="m"} 2\n'
        "# HELP wait d\n# TYPE wait histogram\n"
        'wait_count{model="m"} 3\nwait_sum{model="m"} 7.5\n'
        'wait_bucket{model="m",le="0.1"} 1\nwait_bucket{model="m",le="1"} 1\nwait_bucket{model="m",le="+Inf"} 3\n'
    )


def test_plain_metrics() -> None:
    """Readings become gauges, or counters by their name; names Prometheus cannot hold are left out."""
    source = plain_metrics(
        lambda: [("tritium_x_total", {}, 1.0), ("tritium_y", {"w": "0"}, 2.0), ("bad name", {}, 3.0)],
        {"tritium_y": "why"},
    )
    assert render(source()) == (
        "# HELP tritium_x_total \n# TYPE tritium_x_total counter\ntritium_x_total 1\n"
        '# HELP tritium_y why\n# TYPE tritium_y gauge\ntritium_y{w="0"} 2\n'
    )
