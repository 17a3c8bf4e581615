"""--metrics-config: which latencies are reported, and how summaries and histograms look."""

import pytest
from google.protobuf import text_format

from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.clock import SYSTEM_CLOCK
from tritium.core.errors import InvalidArgument
from tritium.core.instance import ExecutionTimes
from tritium.core.ledger import Ledger
from tritium.core.model import Model
from tritium.core.quantiles import Target
from tritium.core.request import InferResponse
from tritium.core.tensor_model import TensorModel
from tritium.observe.distributions import MetricsConfig, latency_distributions, read_metrics_config
from tritium.observe.models import model_metrics
from tritium.observe.samples import render

EVERYTHING = MetricsConfig(histograms=True, summaries=True, targets=(Target(0.5, 0.05), Target(0.99, 0.001)))

LATENCY_COUNTERS = (
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
)
CACHE_COUNTERS = (
    "nv_cache_num_hits_per_model",
    "nv_cache_hit_duration_per_model",
    "nv_cache_num_misses_per_model",
    "nv_cache_miss_duration_per_model",
)


class Ignore:
    """A reply nobody reads."""

    def send(self, response: object, *, final: bool) -> None: ...


async def loaded(config: MetricsConfig, pbtxt: str = "") -> Model:
    """Return a model as the server has it once it is loaded."""
    proto = text_format.Parse(pbtxt, model_config_pb2.ModelConfig(name="m"))
    model = TensorModel(from_proto(proto), "1", [])
    model.statistics.latencies = config.latencies(model)
    return model


def exposed(model: Model, config: MetricsConfig) -> str:
    """Return the page with everything about a model."""
    sources = (model_metrics(lambda: [model], config), latency_distributions(lambda: [model], config))
    return render(sample for source in sources for sample in source())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], MetricsConfig()),
        (["counter_latencies=false", "summary_latencies=true"], MetricsConfig(counters=False, summaries=True)),
        (["histogram_latencies=true"], MetricsConfig(histograms=True)),
        (["histogram_latencies=true", "histogram_latencies=1"], MetricsConfig()),
        (
            ["summary_quantiles=0.1:0.0.1,0.7:0.01,nonsense,0.75"],
            MetricsConfig(targets=(Target(0.1, 0.0), Target(0.7, 0.01))),
        ),
        (["summary_quantiles=x:y"], MetricsConfig()),
    ],
)
def test_settings_are_read_as_triton_reads_them(settings: list[str], expected: MetricsConfig) -> None:
    """Only `true` and `false` count, the last of a name wins, quantiles that are none are left out."""
    assert read_metrics_config(settings) == expected


@pytest.mark.parametrize("setting", ["summary_latencies", "=true", "summary_latencies=", "local,size=1"])
def test_what_is_no_setting_is_refused(setting: str) -> None:
    """The message has Triton's words and the setting."""
    with pytest.raises(InvalidArgument) as refused:
        read_metrics_config([setting])
    assert refused.value.message == f"--metrics-config option format is <setting>=<value>. Got {setting}"


async def test_without_being_asked_a_model_keeps_no_distributions() -> None:
    """Then its requests pay for one look at a None."""
    assert (await loaded(MetricsConfig())).statistics.latencies is None


async def test_counters_of_latencies_can_be_left_out() -> None:
    """What counts requests stays."""
    page = exposed(await loaded(MetricsConfig()), MetricsConfig(counters=False))
    assert not [family for family in LATENCY_COUNTERS if family in page]
    assert 'nv_inference_request_success{model="m",version="1"} 0' in page


SUMMARY = """\
# HELP nv_inference_queue_summary_us Summary of inference queuing duration in microseconds (includes cached requests)
# TYPE nv_inference_queue_summary_us summary
nv_inference_queue_summary_us_count{model="m",version="1"} 1
nv_inference_queue_summary_us_sum{model="m",version="1"} 73
nv_inference_queue_summary_us{model="m",version="1",quantile="0.5"} 73
nv_inference_queue_summary_us{model="m",version="1",quantile="0.99"} 73
"""


async def test_summaries_are_tritons() -> None:
    """Count, sum, quantiles; whole microseconds; Nan where there was nothing."""
    model = await loaded(EVERYTHING)
    assert 'nv_inference_request_summary_us{model="m",version="1",quantile="0.5"} Nan\n' in exposed(model, EVERYTHING)
    ledger = Ledger(model.statistics, SYSTEM_CLOCK, decoupled=False)
    ledger.success(1, 209_663_999, 73_900, ExecutionTimes(1_000, 2_000, 3_999))
    page = exposed(model, EVERYTHING)
    assert SUMMARY in page
    assert 'nv_inference_request_summary_us_sum{model="m",version="1"} 209663\n' in page
    assert 'nv_inference_compute_output_summary_us{model="m",version="1",quantile="0.99"} 3\n' in page
    assert "nv_cache_hit_summary" not in page


async def test_cached_models_have_metrics_of_the_cache() -> None:
    """Hits and misses come as counters and summaries; the summary of whole requests is left out, as in Triton."""
    config = MetricsConfig(summaries=True, targets=EVERYTHING.targets, cache=True)
    model = await loaded(config, "response_cache { enable: true }")
    ledger = Ledger(model.statistics, SYSTEM_CLOCK, decoupled=False)
    ledger.success(2, 50_000, 10_000, ExecutionTimes(1_000, 2_000, 3_000))
    ledger.cache_miss(5_000)
    ledger.cache_hit(20_000, 4_000, 6_000)
    page = exposed(model, config)
    assert "nv_inference_request_summary" not in page
    for line in (
        'nv_cache_num_hits_per_model{model="m",version="1"} 1',
        'nv_cache_hit_duration_per_model{model="m",version="1"} 6',
        'nv_cache_num_misses_per_model{model="m",version="1"} 1',
        'nv_cache_miss_duration_per_model{model="m",version="1"} 5',
        'nv_cache_hit_summary_per_model_sum{model="m",version="1"} 6',
        'nv_cache_miss_summary_per_model_count{model="m",version="1"} 1',
        'nv_inference_request_success{model="m",version="1"} 2',
        'nv_inference_request_duration_us{model="m",version="1"} 75',
        'nv_inference_queue_duration_us{model="m",version="1"} 14',
        'nv_inference_count{model="m",version="1"} 2',
    ):
        assert line + "\n" in page


@pytest.mark.parametrize(
    ("pbtxt", "cache"), [("response_cache { enable: true }", False), ("response_cache { enable: false }", True)]
)
async def test_only_cached_models_of_a_server_with_a_cache_have_metrics_of_it(pbtxt: str, cache: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Both have to say so."""
    config = MetricsConfig(summaries=True, cache=cache)
    page = exposed(await loaded(config, pbtxt), config)
    assert not [family for family in (*CACHE_COUNTERS, "nv_cache_hit_summary") if family in page]
    assert "nv_inference_request_summary_us" in page


async def test_the_first_response_is_a_histogram() -> None:
    """Its bounds are Triton's, in whole milliseconds; later responses do not count."""
    model = await loaded(EVERYTHING)
    latencies = model.statistics.latencies
    assert latencies is not None
    reply = latencies.watch(Ignore())
    reply.send(InferResponse("m", "1"), final=False)
    reply.send(InferResponse("m", "1"), final=True)
    page = exposed(model, EVERYTHING)
    family = "nv_inference_first_response_histogram_ms"
    at = page.index(f"# HELP {family}")
    assert page[at:].splitlines()[:9] == [
        f"# HELP {family} Duration from request to first response in milliseconds",
        f"# TYPE {family} histogram",
        f'{family}_count{{model="m",version="1"}} 1',
        f'{family}_sum{{model="m",version="1"}} 0',
        *(f'{family}_bucket{{model="m",version="1",le="{le}"}} 1' for le in (100, 500, 2000, 5000, "+Inf")),
    ]


async def test_a_stream_without_responses_is_not_in_the_histogram() -> None:
    """The end of a stream is no response."""
    model = await loaded(EVERYTHING)
    latencies = model.statistics.latencies
    assert latencies is not None
    latencies.watch(Ignore()).send(None, final=True)
    assert 'nv_inference_first_response_histogram_ms_count{model="m",version="1"} 0\n' in exposed(model, EVERYTHING)


async def test_a_model_may_have_bounds_of_its_own() -> None:
    """`model_metrics` of its configuration names the family and the buckets."""
    model = await loaded(
        EVERYTHING,
        """model_metrics { metric_control: [ {
             metric_identifier: { family: "nv_inference_first_response_histogram_ms" }
             histogram_options: { buckets: [ -1, 0.0, 1, 2.5 ] }
           }, { metric_identifier: { family: "other" } } ] }""",
    )
    lines = [line for line in exposed(model, EVERYTHING).splitlines() if "_bucket" in line]
    assert [line.split('le="')[1].split('"')[0] for line in lines] == ["-1", "0", "1", "2.5", "+Inf"]
