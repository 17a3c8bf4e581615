"""docs/metrics.md and docs/backends.md say what is there."""

import asyncio
import re
from pathlib import Path

from google.protobuf import text_format

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.cluster.samples import DISCOVERY_HELP, FLEET_HELP
from tritium.cluster.timings import Timings
from tritium.cluster.waiting import Waiting
from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.cache.store import LocalStore
from tritium.core.model import Model
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest
from tritium.core.scheduler.plan import Reason
from tritium.core.statistics import Statistics
from tritium.core.tensor import Tensor, join_bytes
from tritium.core.tensor_model import TensorModel
from tritium.kv.metrics import STORE_HELP, TIER_HELP
from tritium.llm.tokenizer import TOKENIZER_HELP
from tritium.observe.cache import CountedStore
from tritium.observe.distributions import MetricsConfig, latency_distributions
from tritium.observe.machine import Machine, pinned_memory, process
from tritium.observe.models import REASONS, model_metrics
from tritium.openai.keys.readings import KEY_HELP
from tritium.repository.on_demand import ON_DEMAND_HELP
from tritium.router.admission import Bounds
from tritium.router.router import Router

DOCS = Path(__file__).parents[3] / "docs"


def documented(page: str) -> set[str]:
    """Return what stands in the first column of a page's tables, in code."""
    rows = re.findall(r"^\| (`[^|]*) \|", (DOCS / page).read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


async def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    """The tables of docs/metrics.md hold the families that are served, no more and (but for the fleet's) no fewer."""
    config = MetricsConfig(histograms=True, summaries=True, cache=True)
    models: list[Model] = []
    for cached in (False, True):
        proto = model_config_pb2.ModelConfig(name="m")
        proto.response_cache.enable = cached
        model = TensorModel(from_proto(proto), "1", [], statistics=Statistics(cuts={Reason.IDLE: 1}))
        model.statistics.latencies = config.latencies(model)
        models.append(model)
    sources = [
        model_metrics(lambda: models, config),
        latency_distributions(lambda: models, config),
        Machine(),
        process,
        pinned_memory(0),
        CountedStore(LocalStore(1), 1).samples,
    ]
    served = {sample.family for source in sources for sample in source()}
    served |= ON_DEMAND_HELP.keys() | TOKENIZER_HELP.keys() | KEY_HELP.keys()
    served |= {sample.family for sample in Timings().samples("m")}
    served |= {sample.family for sample in Waiting(Bounds(), lambda: Router(1)).samples("m")}
    documented_names = {name.partition("{")[0] for name in documented("metrics.md")}
    assert served <= documented_names
    elsewhere = FLEET_HELP.keys() | DISCOVERY_HELP.keys() | TIER_HELP.keys() | STORE_HELP.keys()
    assert documented_names <= served | elsewhere
    text = (DOCS / "metrics.md").read_text()
    assert all(reason in text for reason in REASONS)


def test_every_reason_of_a_cut_is_documented() -> None:
    """docs/scheduling.md explains every reason that the dynamic batcher counts."""
    assert {str(reason) for reason in Reason} - {"single"} <= documented("scheduling.md")


async def test_the_backend_of_the_docs_works() -> None:
    """The example of docs/backends.md is a whole backend."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "backends.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    proto = text_format.Parse(
        'name: "m" input { name: "INPUT" data_type: TYPE_STRING dims: -1 } '
        'output { name: "OUTPUT" data_type: TYPE_STRING dims: -1 }',
        model_config_pb2.ModelConfig(),
    )
    source = ModelSource(from_proto(proto), Path(), "1")
    backend = names["UpperBackend"]()  # type: ignore[operator]
    model = TensorModel(source.config, "1", [await backend.open(source, InstancePlace("m_0"), BackendHost())])
    reply = SingleReply(asyncio.get_running_loop())
    model.submit(InferRequest("m", inputs=[Tensor("INPUT", "BYTES", (2,), join_bytes(["a", "b"]))]), reply)
    (output,) = (await reply.future).outputs
    assert bytes(output.data) == join_bytes(["A", "B"])
    await model.close()
