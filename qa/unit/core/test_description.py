"""Statistics as the protocols tell them: Triton's fields, and why batches were not larger."""

from typing import Any

import orjson
from google.protobuf import text_format

from tritium.compat.config.model import from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.catalog import Catalog
from tritium.core.description import describe_statistics
from tritium.core.model import Model
from tritium.core.scheduler.plan import Reason
from tritium.core.serving import ServerState
from tritium.core.statistics import Statistics
from tritium.core.tensor_model import TensorModel


class Shelf(Catalog):
    """A catalog of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def models(self) -> list[Model]:  # type: ignore[override]
        return [self._model]


async def described(statistics: Statistics) -> dict[str, Any]:
    """Return the row of a model with these statistics."""
    proto = text_format.Parse("", model_config_pb2.ModelConfig(name="m"))
    model = TensorModel(from_proto(proto), "1", [], statistics=statistics)
    (row,) = describe_statistics(ServerState(Shelf(model)))["model_stats"]  # type: ignore[abstract]
    return dict(row)


async def test_rows_are_tritons() -> None:
    """Names and order of the statistics extension; what never happened is there with zeros."""
    row = await described(Statistics())
    assert list(row) == [
        "name",
        "version",
        "last_inference",
        "inference_count",
        "execution_count",
        "inference_stats",
        "response_stats",
        "batch_stats",
        "memory_usage",
    ]
    assert list(row["inference_stats"]) == [
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
        "cache_hit",
        "cache_miss",
    ]
    assert row["inference_stats"]["fail"] == {"count": 0, "ns": 0}


async def test_a_model_that_batches_says_why_its_batches_were_not_larger() -> None:
    """By the names that docs/scheduling.md explains, and as JSON can carry them."""
    row = await described(Statistics(cuts={Reason.SHAPE: 3, Reason.IDLE: 1}))
    assert orjson.loads(orjson.dumps(row))["batch_cuts"] == {"shape": 3, "idle": 1}
